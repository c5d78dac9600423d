"""Failpoints stop a process exactly where they are named, and the list of them is complete."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.failpoints import POINTS, VARIABLE, failpoint
from shared.messaging.topology import QUEUES
from tools.failpoint_table import PAGE, page

REPO = Path(__file__).parents[2]
REACHED = re.compile(r"""failpoint\(\s*f?"([^"]+)"\s*\)""")


def test_failpoint_does_nothing_when_no_directory_is_set(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    failpoint("upload.kept")
    failpoint("an unknown point is not looked up in production")


def test_failpoint_must_be_registered_when_a_directory_is_set(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    failpoint("upload.kept")  # which is not armed
    with pytest.raises(LookupError, match=r"'upload.forgotten' is not a failpoint: register it"):
        failpoint("upload.forgotten")


def test_points_are_exactly_those_the_code_reaches():
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
        env=os.environ | {VARIABLE: str(tmp_path)},
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


def test_every_point_is_registered_once():
    assert len(set(POINTS)) == len(POINTS)
    assert {point for point in POINTS if point.endswith(".pulled")} == {f"{queue}.pulled" for queue in QUEUES}


def test_the_generated_page_is_current():
    assert PAGE.read_text() == page(), "run `make schemas`"
