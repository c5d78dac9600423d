"""A file stays locked until its process unlocks it or dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from shared.workspace.file_lock import hold, is_held

REPO = Path(__file__).parents[2]
HOLDER = (
    "import os, sys, time; from shared.workspace.file_lock import hold;"
    " hold(os.open(sys.argv[1], os.O_RDWR)); print(); time.sleep(60)"
)


def test_file_is_held_until_its_descriptor_is_closed(tmp_path):
    path = tmp_path / "a.part"
    path.touch()
    assert not is_held(path)
    descriptor = os.open(path, os.O_RDWR)
    hold(descriptor)
    assert is_held(path)
    path.rename(tmp_path / "source")
    assert is_held(tmp_path / "source"), "its name does not matter"
    os.close(descriptor)
    assert not is_held(tmp_path / "source")


def test_file_is_held_by_a_stopped_process_and_not_by_a_dead_one(tmp_path):
    path = tmp_path / "a.part"
    path.touch()
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], cwd=REPO, stdout=subprocess.PIPE)
    with process:
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        assert is_held(path)
        process.kill()
    assert not is_held(path)


def test_missing_file_is_not_held(tmp_path):
    assert not is_held(tmp_path / "gone")
