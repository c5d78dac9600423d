"""Crash points: they park a process exactly where they say, and the list of them is complete."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.failpoints import CONSUME, POINTS, failpoint
from shared.messaging.topology import QUEUES

REPO = Path(__file__).parents[2]
REACHED = re.compile(r"""failpoint\(\s*f?"([^"]+)"\s*\)""")


def test_reach_returns_when_nothing_is_set():
    failpoint("upload.kept")
    failpoint("no such point costs nothing to ask for in production")


def test_points_name_exactly_what_the_code_reaches():
    reached = set()
    for part in ("services", "shared"):
        for path in (REPO / part).rglob("*.py"):
            reached |= set(REACHED.findall(path.read_text()))
    plain = {point for point in reached if "{" not in point}
    patterns = [re.compile(re.sub(r"\\{.*?\\}", ".+", re.escape(point))) for point in reached - plain]
    unreached = {p for p in set(POINTS) - plain if not any(pattern.fullmatch(p) for pattern in patterns)}
    assert plain <= set(POINTS)
    assert not unreached


@pytest.fixture
def parked(tmp_path):
    code = "from shared.failpoints import failpoint; failpoint('upload.kept'); print('went on', flush=True)"
    (tmp_path / "upload.kept.armed").touch()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=REPO,
        env=os.environ | {"CRASH_POINTS_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    yield tmp_path, process
    process.kill()
    process.communicate()


def test_armed_point_parks_the_process_until_it_is_continued(parked):
    directory, process = parked
    mark = directory / f"upload.kept.{process.pid}.parked"
    deadline = time.monotonic() + 30
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT).si_status == signal.SIGSTOP
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=30)[0] == "went on\n"
    assert not (directory / "upload.kept.armed").exists()


def test_the_documentation_says_of_every_point_what_recovers_from_it():
    section = (REPO / "docs" / "reliability.md").read_text().partition("## Crash points")[2]
    told = set(re.findall(r"`([a-z0-9_]+(?:\.[a-z_]+)+|<(?:service|queue)>\.[a-z.]+)`", section))
    families = {
        re.sub(rf"^(?:{'|'.join(map(re.escape, QUEUES))})(?=\.(?:{'|'.join(CONSUME)})$)", "<queue>", point)
        for point in POINTS
    }
    families = {re.sub(r"^[a-z]+(?=\.relay\.)", "<service>", point) for point in families}
    assert told >= families
