"""Removes unfinished uploads of dead processes; live processes clean up themselves."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from shared.workspace.file_lock import is_held

if TYPE_CHECKING:
    from shared.workspace.layout import WorkDir

STALE_SECONDS = 3600.0  # a live upload writes every MiB and is aborted after a minute without data
SWEEP_SECONDS = 600.0

log = structlog.get_logger()


async def sweep_uploads(work: WorkDir) -> None:
    """Check repeatedly; continues after disk errors."""
    while True:
        try:
            removed = await asyncio.to_thread(remove_stale, work.root / "uploads", time.time())
        except OSError as error:
            log.warning("sweep_failed", error=str(error))
        else:
            if removed:
                log.info("stale_uploads_removed", files=removed)
        await asyncio.sleep(SWEEP_SECONDS)


def remove_stale(uploads: Path, now: float) -> int:
    """Remove files without a write for STALE_SECONDS; return how many. `now` is a Unix time."""
    old = [Path(entry) for entry in os.scandir(uploads) if _age_seconds(entry, now) > STALE_SECONDS]
    stale = [path for path in old if not is_held(path)]
    for path in stale:
        path.unlink(missing_ok=True)
    return len(stale)


def _age_seconds(entry: os.DirEntry[str], now: float) -> float:
    try:
        return now - entry.stat().st_mtime
    except FileNotFoundError:  # its upload has just ended
        return 0.0
