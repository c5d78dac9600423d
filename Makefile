# Variables given to a target (make up STORAGE_TYPE=local TRANSCODERS=2) reach the services: make exports command-line variables to the environment.

VENV := .venv
READY := $(VENV)/.installed
PYTHON := $(VENV)/bin/python
LOCAL := $(PYTHON) -m devstack
# how many processes share the tests that need servers; each starts servers of its own
TEST_PROCESSES ?= 2
LOCK := uv pip compile --quiet --python-version 3.11 --no-header --no-emit-find-links --generate-hashes pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help up down status demo player test test-browser test-long test-providers test-mixed test-image test-compose test-cluster test-kubelet fuzz test-ffmpegs chaos chaos-short chaos-controls fsck gpu-selftest bench-encode bench-store bench-stream bench-work load check fmt schemas dashboards sql-stubs lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(READY) ## start the whole system in the background, or the parts that have died
	@$(LOCAL) up

down: $(READY) ## stop the system
	@$(LOCAL) down

status: $(READY) ## show the parts of the system: state, process, ports, log
	@$(LOCAL) status

demo: $(READY) ## set up everything, convert a clip and prove that it plays (CLIP=path)
	@$(LOCAL) demo $(if $(CLIP),"$(CLIP)")

player: ## install the libraries of the player page (needs npm)
	@cd services/streamer/player && npm ci --omit=peer

fsck: $(READY) ## compare the running system's records with its storage (FSCK_ARGS="--repair")
	@set -a; if [ -f .stack/env ]; then . ./.stack/env; fi; $(PYTHON) -m services.uploader fsck $(FSCK_ARGS)

test: $(READY) ## run the whole test suite; unit tests have to cover their share (PYTEST_ARGS=... runs those tests alone)
	@$(LOCAL) install
ifeq ($(PYTEST_ARGS),)
	@$(PYTHON) -m coverage run -m pytest tests/unit
	@$(PYTHON) -m coverage report
	@$(PYTHON) -m pytest --ignore=tests/unit --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder
else
	@$(PYTHON) -m pytest $(PYTEST_ARGS)
endif

test-browser: $(READY) ## play videos in Debian's Chromium, through the real services (installs it)
	@$(LOCAL) install
	@$(PYTHON) -m tests.browser.requirements
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/browser/requirements.lock
	@$(PYTHON) -m pytest -m browser --timeout 900 -s $(or $(PYTEST_ARGS),tests/browser)

test-long: $(READY) ## run the tests that take minutes: long clips, large collections
	@$(LOCAL) install
	@$(PYTHON) -m pytest -m long -s $(PYTEST_ARGS)

test-cluster: $(READY) ## apply manifests and chart to a real control plane of Kubernetes (builds it once; needs Go)
	@$(PYTHON) -m tests.cluster.programs
	@$(PYTHON) -m pytest -m cluster tests/cluster $(PYTEST_ARGS)

test-kubelet: $(READY) ## run the image in pods on two nodes of its own: roll-outs, drains, KEDA (needs root and Go)
	@$(PYTHON) -m tests.kubelet $(PYTEST_ARGS)

test-ffmpegs: $(READY) ## check chunks and joins with FFmpeg 6, 7, 8 and 9 beside the system's (fetches them once)
	@$(LOCAL) install
	@$(PYTHON) -m tests.ffmpegs.builds
	@$(PYTHON) -m pytest tests/integration/test_ffmpeg_versions.py tests/integration/test_per_title.py $(PYTEST_ARGS)

fuzz: $(READY) ## fuzz every parser of untrusted data, for ten minutes (FUZZ_SECONDS=600)
	@FUZZ_SECONDS=$(or $(FUZZ_SECONDS),600) $(PYTHON) -m pytest tests/fuzz --timeout 0 $(PYTEST_ARGS)

test-mixed: $(READY) ## run services of earlier versions beside those of today, as during a rolling update
	@$(LOCAL) install
	@$(PYTHON) -m pytest -m long tests/e2e/test_mixed_versions.py $(PYTEST_ARGS)

test-image: $(READY) ## build the image and run the system from it (needs root; starts a Docker daemon of its own)
	@$(PYTHON) -m tests.deploy image $(PYTEST_ARGS)

test-compose: $(READY) ## run compose.yaml, with the servers' images made here (needs root)
	@$(PYTHON) -m tests.deploy compose $(PYTEST_ARGS)

bench-stream: $(READY) ## compare the streamer and its edge with bare nginx (needs wrk; BENCH_ARGS="--before DIR --seconds 5")
	@$(LOCAL) install
	@$(PYTHON) -m tests.bench.stream $(BENCH_ARGS)

bench-store: $(READY) ## compare putting objects with s5cmd and rclone (BENCH_ARGS="--rounds 5")
	@$(PYTHON) -m tests.bench.store $(BENCH_ARGS)

bench-work: $(READY) ## compare a work bucket with a work volume: time to first playback, a 10 GB upload (BENCH_ARGS="--rounds 5")
	@$(LOCAL) install
	@$(PYTHON) -m tests.bench.work $(BENCH_ARGS)

test-providers: $(READY) ## run contract, doctor and pipeline on other S3 servers (PROVIDER=minio,rclone)
	@$(LOCAL) install
	@$(PYTHON) -m tests.providers --pipeline --providers "$(PROVIDER)" $(PROVIDER_ARGS)

chaos: $(READY) ## inject faults into the whole system for 40 minutes and check the result (CHAOS_ARGS="--seed 7")
	@$(LOCAL) install
	@$(PYTHON) -m tests.chaos.run $(CHAOS_ARGS)

chaos-short: $(READY) ## the same in eight minutes
	@$(LOCAL) install
	@$(PYTHON) -m tests.chaos.run --minutes 8 $(CHAOS_ARGS)

gpu-selftest: $(READY) ## check which ways of encoding work on this machine's GPU
	@$(PYTHON) -m services.transcoder.selftest

bench-encode: $(READY) ## compare cost, quality and peaks of encoding with other tools (BENCH_SECONDS, BENCH_MEDIA, BENCH_ARGS)
	@$(LOCAL) install
	@$(PYTHON) -m tests.bench.encode $(BENCH_ARGS)

chaos-controls: $(READY) ## remove the guards one at a time and expect the checks to find the damage (CONTROLS_ARGS)
	@$(LOCAL) install
	@$(PYTHON) -m tests.chaos.ablation $(CONTROLS_ARGS)

load: $(READY) ## upload and convert many small videos at once and watch the services (LOAD_ARGS)
	@$(LOCAL) install
	@$(PYTHON) -m tests.bench.load $(LOAD_ARGS)

check: $(READY) ## check format, lint, types and architecture
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

fmt: $(READY) ## format the code and fix what can be fixed automatically
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

schemas: $(READY) ## generate the event schemas, the AsyncAPI document and the table of failpoints under docs/
	@$(PYTHON) -m tools.event_schemas
	@$(PYTHON) -m tools.failpoint_table
	@$(PYTHON) -m tools.reason_table

dashboards: $(READY) ## generate the dashboards and the PrometheusRule under deploy/monitoring
	@$(PYTHON) -m tools.dashboards

sql-stubs: $(READY) ## generate the types of the SQL statements (needs a system that is up)
	@set -a; if [ -f .stack/env ]; then . ./.stack/env; fi; $(PYTHON) -m tools.sql_stubs

lock: ## resolve the dependencies into the lock files (needs uv)
	$(LOCK) --output-file requirements.lock
	$(LOCK) --group dev --constraint requirements.lock --output-file requirements-dev.lock

clean: $(READY) ## stop the system and remove its data
	@$(LOCAL) down --wipe

$(READY): requirements-dev.lock
	@sh devstack/venv.sh $(VENV) $<
