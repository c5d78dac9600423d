"""WORK=bucket started by root: each service runs as a separate user, and cannot read another's scratch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from itertools import permutations
from pathlib import Path

import psutil
import pytest
import structlog

from devstack.programs import may_traverse
from tests.e2e.system import REPO, System, make_clip

DEBIANS = Path(f"/usr/bin/python3.{sys.version_info.minor}")
PACKAGES = Path(structlog.__file__).parents[1]


@pytest.fixture(scope="module")
def place():
    """Return a directory that any user may enter."""
    if os.geteuid() != 0:
        pytest.skip("only root can start processes of other users")
    if not may_traverse(REPO / "services", PACKAGES):
        pytest.skip("other users cannot enter this checkout")
    directory = Path(tempfile.mkdtemp(prefix="users-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def python(place):
    """Return an interpreter with the same packages that any user may run."""
    if may_traverse(Path(sys.executable)):
        return Path(sys.executable)
    if not DEBIANS.exists():
        pytest.skip(f"other users can run neither {sys.executable} nor {DEBIANS}")
    environment = place / "venv"
    subprocess.run([DEBIANS, "-m", "venv", "--without-pip", environment], check=True)
    [packages] = environment.glob("lib/python3.*/site-packages")
    (packages / "others.pth").write_text(f"{PACKAGES}\n")
    (environment / "bin/weed").symlink_to(Path(sys.executable).parent / "weed")
    return environment / "bin/python"


@pytest.fixture(scope="module")
def system(place, python, outside_servers):
    running = System(place / "stack", python=python)
    try:
        running.up(WORK="bucket", STORAGE_TYPE="s3", CHUNK_SECONDS="4", HLS_SEGMENT_SECONDS="2")
        yield running
    finally:
        running.down()


@pytest.mark.timeout(300)
async def test_services_convert_a_video_and_cannot_read_each_others_files(system, tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", seconds=5, size="320x180")
    async with system.client() as client:
        record = await client.ready((await client.upload(clip))["id"])
        assert {each.frames for each in (await client.play(record, tmp_path)).values()} == {125}
    names = {path.name for path in scratches(system).iterdir()}
    running = system.processes().items()
    users = {name: psutil.Process(pid).uids().real for name, pid in running if name in names}
    assert set(users) == {"ingest", "transcoder-1", "uploader", "streamer"}
    assert len(set(users.values()) - {0}) == 4
    files = [path for path in scratches(system).rglob("*") if path.is_file()]
    assert any("sources" in path.parts for path in files), "the transcoder's copy of the original"
    for reader, owner in permutations(users, 2):
        for path in [scratches(system) / owner, *(each for each in files if owner in each.parts)]:
            assert "Permission denied" in refusal(users[reader], path), f"{reader} can read {path}"


def scratches(system):
    return system.directory / "scratch"


def refusal(uid, path):
    """Return the output when a user lists a directory, or reads a file."""
    command = ["ls", path] if path.is_dir() else ["cat", path]
    user = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    done = subprocess.run([*user, *command], capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""
