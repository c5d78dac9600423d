"""`make test-providers [PROVIDER=minio,rclone]`: contract, doctor and pipeline on real servers.

Each server is started with an empty bucket; the suite's own tests reach it by S3_* variables, like any other.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.providers.catalogue import PROVIDERS
from tests.providers.server import install, serving

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.providers.catalogue import Provider

CONTRACT = ("tests/integration/test_storage.py",)
PIPELINE = (
    "tests/e2e/test_pipeline.py::test_upload_ends_ready_in_s3_with_tree_record_events_and_playback",
    "tests/e2e/test_pipeline.py::test_delete_leaves_no_object_and_no_file",
    "tests/e2e/test_fsck.py",
    "tests/e2e/test_given_storage.py",
)
NOTHING_ASKED = {
    "DATABASE_URL": "postgresql://unused/x",
    "RABBITMQ_URL": "amqp://unused/",
    "STORAGE_TYPE": "s3",
}
COUNTS = re.compile(r"(\d+) (passed|failed|skipped|errors?)")


def main(arguments: Sequence[str]) -> int:
    """Test the named servers, all by default; return 1 when any of them failed."""
    given = _parse(arguments)
    names = given.providers.split(",") if given.providers else list(PROVIDERS)
    if unknown := [name for name in names if name not in PROVIDERS]:
        sys.stderr.write(f"unknown: {', '.join(unknown)}; there are {', '.join(PROVIDERS)}\n")
        return 2
    if given.cached:
        names = [name for name in names if PROVIDERS[name].is_installed]
    results = {name: _test(PROVIDERS[name], pipeline=given.pipeline) for name in names}
    _tell(results)
    if given.json:
        Path(given.json).write_text(json.dumps(results, indent=2) + "\n")
    return 0 if all(result["passed"] for result in results.values()) else 1


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.providers")
    parser.add_argument("--providers", default="", help="names by comma; all by default")
    parser.add_argument("--pipeline", action="store_true", help="convert, play, delete and repair as well")
    parser.add_argument(
        "--cached", action="store_true", help="leave out what would have to be fetched or built"
    )
    parser.add_argument("--json", help="write the results to a file")
    return parser.parse_args(arguments)


def _test(provider: Provider, *, pipeline: bool) -> dict[str, Any]:
    install(provider)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        variables = stack.enter_context(serving(provider, home))
        doctor = _doctor(variables, home)
        differs = [word for test in provider.differs for word in ("--deselect", test)]
        tests = _pytest(variables, (*CONTRACT, *(PIPELINE if pipeline else ()), *differs))
    failed = set(doctor["failed"]) - provider.lacks
    return {
        "version": provider.version,
        "doctor": doctor,
        "differs": list(provider.differs),
        "tests": tests,
        "pipeline": pipeline,
        "passed": not failed and tests["exit"] == 0,
    }


def _doctor(variables: dict[str, str], home: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "services.uploader", "storage", "doctor", "--json"]
    environment = {**os.environ, **NOTHING_ASKED, **variables, "WORK_DIR": str(home)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        return {"failed": ["doctor"], "warnings": [], "error": done.stderr}
    findings = json.loads(done.stdout)["findings"]
    return {
        "failed": [each["check"] for each in findings if each["status"] == "failed"],
        "warnings": [each["check"] for each in findings if each["status"] == "warning"],
        "messages": [each["message"] for each in findings if each["status"] in ("failed", "warning")],
    }


def _pytest(variables: dict[str, str], tests: Sequence[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=5", *tests]
    started = time.monotonic()
    done = subprocess.run(
        command, env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True, check=False
    )
    seconds = round(time.monotonic() - started)
    print(done.stdout[-4000:], flush=True)
    last = done.stdout.strip().rsplit("\n", 1)[-1]
    counts = {word: int(number) for number, word in COUNTS.findall(last)}
    return {"exit": done.returncode, "seconds": seconds, **counts}


def _tell(results: dict[str, dict[str, Any]]) -> None:
    for name, result in results.items():
        tests, doctor = result["tests"], result["doctor"]
        told = f"{tests.get('passed', 0)} tests passed, {tests.get('failed', 0)} failed, {tests['seconds']} s"
        wrong = ", ".join(doctor["failed"]) or "nothing"
        print(f"{name:<12}{'ok' if result['passed'] else 'FAILED':<8}{told}; the doctor finds {wrong} wrong")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
