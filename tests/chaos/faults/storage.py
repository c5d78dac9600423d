"""Storage faults: S3 answers wrongly or not at all, the work volume is full."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from tests.chaos.faults.injector import NotRun

if TYPE_CHECKING:
    from tests.chaos.faults.injector import Injector
    from tests.chaos.faults.s3_proxy import Kind

FAULTS = 12
FAULTS_SECONDS = 8.0
SILENT_SECONDS = 5.0
FULL_SECONDS = 6.0
BALLOON = "balloon"
PAGE_BYTES = 4096


async def s3_unavailable(injector: Injector) -> int:
    """Answer 503 for a while."""
    return await _s3(injector, "unavailable")


async def s3_applied_then_500(injector: Injector) -> int:
    """Execute requests, but answer 500."""
    return await _s3(injector, "applied_then_500")


async def s3_truncated(injector: Injector) -> int:
    """Truncate bodies."""
    return await _s3(injector, "truncated")


async def s3_timeout(injector: Injector) -> int:
    """Do not answer, then close the connection."""
    return await _s3(injector, "timeout", seconds=SILENT_SECONDS)


async def s3_silent(injector: Injector) -> int:
    """Accept requests and never answer them, not even after the fault is over."""
    return await _s3(injector, "silent", seconds=SILENT_SECONDS)


async def s3_stalled(injector: Injector) -> int:
    """Pass on half of a body and then nothing more, without closing the connection."""
    return await _s3(injector, "stalled", seconds=SILENT_SECONDS)


async def disk_full(injector: Injector) -> int:
    """Fill the work volume completely, then free the space."""
    if injector.environment.volume_refused is not None:
        raise NotRun(f"there is no separate volume: {injector.environment.volume_refused}")
    balloon = injector.environment.work / BALLOON
    try:
        with balloon.open("wb") as file:
            _fill(file.fileno(), injector)
        await asyncio.sleep(FULL_SECONDS)
    finally:
        balloon.unlink(missing_ok=True)
    return 1


def _fill(descriptor: int, injector: Injector) -> None:
    """Take all free space; the rest page by page, because other processes write too."""
    size = 0
    while free := _free_bytes(injector):
        try:
            os.posix_fallocate(descriptor, size, free)
        except OSError:
            return
        size += free


def _free_bytes(injector: Injector) -> int:
    stat = os.statvfs(injector.environment.work)
    return stat.f_bavail * stat.f_frsize // PAGE_BYTES * PAGE_BYTES


async def _s3(injector: Injector, kind: Kind, seconds: float = FAULTS_SECONDS) -> int:
    proxy = injector.environment.s3
    before = proxy.injected[kind]
    proxy.fail(kind, FAULTS)
    await asyncio.sleep(seconds)
    proxy.heal()
    return proxy.injected[kind] - before
