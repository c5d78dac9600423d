"""Storage at fault: S3 answers wrongly or not at all, the work volume is full."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from tests.chaos.faults.injector import NotRun

if TYPE_CHECKING:
    from tests.chaos.faults.injector import Storm
    from tests.chaos.faults.s3_proxy import Kind

FAULTS = 12
FAULTS_SECONDS = 8.0
SILENT_SECONDS = 5.0
FULL_SECONDS = 6.0
BALLOON = "balloon"
PAGE_BYTES = 4096


async def s3_unavailable(storm: Storm) -> int:
    """Answer 503 for a while."""
    return await _s3(storm, "unavailable")


async def s3_applied_then_500(storm: Storm) -> int:
    """Do what was asked, and answer 500."""
    return await _s3(storm, "applied_then_500")


async def s3_truncated(storm: Storm) -> int:
    """End bodies in their middle."""
    return await _s3(storm, "truncated")


async def s3_timeout(storm: Storm) -> int:
    """Do not answer, and break the connection in the end."""
    return await _s3(storm, "timeout", seconds=SILENT_SECONDS)


async def disk_full(storm: Storm) -> int:
    """Fill the work volume to the last page, and make room again."""
    if storm.ground.volume_refused is not None:
        raise NotRun(f"no volume of its own: {storm.ground.volume_refused}")
    balloon = storm.ground.work / BALLOON
    try:
        with balloon.open("wb") as file:
            _fill(file.fileno(), storm)
        await asyncio.sleep(FULL_SECONDS)
    finally:
        balloon.unlink(missing_ok=True)
    return 1


def _fill(descriptor: int, storm: Storm) -> None:
    """Take what is free; others write too, so what is left is taken page by page."""
    size = 0
    while free := _free_bytes(storm):
        try:
            os.posix_fallocate(descriptor, size, free)
        except OSError:
            return
        size += free


def _free_bytes(storm: Storm) -> int:
    stat = os.statvfs(storm.ground.work)
    return stat.f_bavail * stat.f_frsize // PAGE_BYTES * PAGE_BYTES


async def _s3(storm: Storm, kind: Kind, seconds: float = FAULTS_SECONDS) -> int:
    proxy = storm.ground.s3
    before = proxy.injected[kind]
    proxy.fail(kind, FAULTS)
    await asyncio.sleep(seconds)
    proxy.heal()
    return proxy.injected[kind] - before
