"""The files under WORK_DIR, without HTTP."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from shared.workspace import upload_file as module
from shared.workspace.disk_budget import DiskBudget, Reservation
from shared.workspace.layout import WorkDir
from shared.workspace.upload_file import UploadFile
from shared.workspace.volume import STALE_SECONDS, remove_stale

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def work(tmp_path: Path) -> WorkDir:
    for name in ("uploads", "originals"):
        (tmp_path / name).mkdir()
    return WorkDir(tmp_path)


def incoming_to(work: WorkDir) -> UploadFile:
    return UploadFile(work, uuid4(), Reservation(DiskBudget(work.root, 0), "alice"))


def files(work: WorkDir) -> list[str]:
    return [path.name for path in work.root.rglob("*") if path.is_file()]


async def test_discard_waits_for_the_write_of_a_cancelled_upload(
    work: WorkDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go_on = threading.Event(), threading.Event()
    write = os.write

    def slow(file: int, data: Any) -> int:
        started.set()
        go_on.wait(5)
        return write(file, data)

    monkeypatch.setattr(module.os, "write", slow)
    incoming = incoming_to(work)
    writing = asyncio.create_task(incoming.write(b"film"))
    await asyncio.to_thread(started.wait, 5)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    discarding = asyncio.create_task(incoming.discard())
    await asyncio.sleep(0.05)
    assert not discarding.done()
    go_on.set()
    await discarding
    await incoming.write(b"too late")
    await incoming.keep()
    assert files(work) == []


async def test_write_continues_when_the_disk_accepts_only_a_part(
    work: WorkDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(module.os, "write", lambda file, data: write(file, data[:3]))
    incoming = incoming_to(work)
    await incoming.write(b"0123456789")
    await incoming.keep()
    assert incoming.original.read_bytes() == b"0123456789"
    assert (incoming.size_bytes, incoming.sha256[:8]) == (10, "84d89877")


def test_sweep_removes_uploads_that_are_no_longer_written(work: WorkDir) -> None:
    old, new = work.upload(uuid4()), work.upload(uuid4())
    for path in (old, new):
        path.write_bytes(b"x")
    modified = new.stat().st_mtime
    os.utime(old, (0, modified - STALE_SECONDS - 10))
    assert remove_stale(work.root / "uploads", modified) == 1
    assert files(work) == [new.name]
