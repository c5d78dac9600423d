# Variables given to a target (make up STORAGE_TYPE=local TRANSCODERS=2) reach the services: make hands
# what stands on its command line on in the environment.

VENV := .venv
READY := $(VENV)/.installed
PYTHON := $(VENV)/bin/python
LOCAL := $(PYTHON) -m devstack
LOCK := uv pip compile --quiet --python-version 3.11 --no-header --no-emit-find-links --generate-hashes pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help up down status demo test test-long test-mixed fuzz test-ffmpegs chaos chaos-short chaos-controls fsck gpu-selftest bench-encode load check fmt schemas sql-stubs lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(READY) ## start the whole system in the background, or whatever of it has died
	@$(LOCAL) up

down: $(READY) ## stop it
	@$(LOCAL) down

status: $(READY) ## show its parts: state, process, ports, log
	@$(LOCAL) status

demo: $(READY) ## convert a clip from nothing to playback and prove that it plays (CLIP=path)
	@$(LOCAL) demo $(if $(CLIP),"$(CLIP)")

fsck: $(READY) ## compare the running system's records with its storage (FSCK_ARGS="--repair")
	@set -a; if [ -f .stack/env ]; then . ./.stack/env; fi; $(PYTHON) -m services.uploader fsck $(FSCK_ARGS)

test: $(READY) ## run the whole test suite (PYTEST_ARGS=... is handed on)
	@$(LOCAL) install
	@$(PYTHON) -m pytest $(PYTEST_ARGS)

test-long: $(READY) ## run the tests that take minutes: long clips, large collections
	@$(LOCAL) install
	@$(PYTHON) -m pytest -m long -s $(PYTEST_ARGS)

test-ffmpegs: $(READY) ## check chunks and joins with FFmpeg 6, 7, 8 and 9 beside the system's (fetches them once)
	@$(LOCAL) install
	@$(PYTHON) -m tests.ffmpegs.builds
	@$(PYTHON) -m pytest tests/integration/test_ffmpeg_versions.py $(PYTEST_ARGS)

fuzz: $(READY) ## fuzz every parser of what strangers send, for ten minutes (FUZZ_SECONDS=600)
	@FUZZ_SECONDS=$(or $(FUZZ_SECONDS),600) $(PYTHON) -m pytest tests/fuzz --timeout 0 $(PYTEST_ARGS)

test-mixed: $(READY) ## run services of earlier versions beside those of today, as during a rolling update
	@$(LOCAL) install
	@$(PYTHON) -m pytest -m long tests/e2e/test_mixed_versions.py $(PYTEST_ARGS)

chaos: $(READY) ## kill, pause and cut off everything for 40 minutes and judge what is left (CHAOS_ARGS="--seed 7")
	@$(LOCAL) install
	@$(PYTHON) -m tests.chaos.run $(CHAOS_ARGS)

chaos-short: $(READY) ## the same within eight minutes
	@$(LOCAL) install
	@$(PYTHON) -m tests.chaos.run --minutes 8 $(CHAOS_ARGS)

gpu-selftest: $(READY) ## encode a clip in every way on this machine's GPU and say what works
	@$(PYTHON) -m services.transcoder.selftest

bench-encode: $(READY) ## measure encoding against other ways to do it (BENCH_SECONDS, BENCH_MEDIA, BENCH_ARGS)
	@$(LOCAL) install
	@$(PYTHON) -m tests.bench.encode $(BENCH_ARGS)

chaos-controls: $(READY) ## take the guards away one by one and see that the judge finds the damage (CONTROLS_ARGS)
	@$(LOCAL) install
	@$(PYTHON) -m tests.chaos.ablation $(CONTROLS_ARGS)

check: $(READY) ## check format, lint, types and architecture
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

fmt: $(READY) ## format the code and mend what can be mended
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

schemas: $(READY) ## generate the event schemas, the AsyncAPI document and the table of failpoints under docs/
	@$(PYTHON) -m tools.event_schemas
	@$(PYTHON) -m tools.failpoint_table

sql-stubs: $(READY) ## generate the types of the SQL statements (needs a system that is up)
	@set -a; if [ -f .stack/env ]; then . ./.stack/env; fi; $(PYTHON) -m tools.sql_stubs

lock: ## resolve the dependencies anew into the lock files (needs uv)
	$(LOCK) --output-file requirements.lock
	$(LOCK) --group dev --constraint requirements.lock --output-file requirements-dev.lock

clean: $(READY) ## stop the system and remove its data
	@$(LOCAL) down --wipe

$(READY): requirements-dev.lock
	@sh devstack/venv.sh $(VENV) $<
