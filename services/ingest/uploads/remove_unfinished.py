"""Removes unfinished uploads of dead processes; live processes clean up themselves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from shared.errors import PipelineError

if TYPE_CHECKING:
    from shared.workspace.interface import Workspace

SWEEP_SECONDS = 600.0

log = structlog.get_logger()


async def sweep_uploads(work: Workspace) -> None:
    """Check repeatedly; continues after errors of the disk or bucket."""
    while True:
        try:
            removed = await work.remove_stale_uploads()
        except (OSError, PipelineError) as error:
            log.warning("sweep_failed", error=str(error))
        else:
            if removed:
                log.info("stale_uploads_removed", files=removed)
        await asyncio.sleep(SWEEP_SECONDS)
