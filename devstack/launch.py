"""Starts one part and waits until it is ready."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from devstack.processes import PreparationError, is_alive, prepare, start
from devstack.readiness import reason_not_ready

if TYPE_CHECKING:
    from pathlib import Path

    from devstack.parts import Part
    from devstack.state import Running

READY_SECONDS = 90.0
POLL_SECONDS = 0.2
LOG_LINES = 20


class PartError(Exception):
    """A part did not start; the message names it and has the end of its log."""

    def __init__(self, part: Part, what: str, log: Path) -> None:
        lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:] if log.exists() else []
        super().__init__("\n  ".join([f"{part.name} {what}. The end of {log}:", *lines]))


async def launch(part: Part, log: Path) -> Running:
    """Prepare and start `part` without waiting for it. Raises PartError."""
    log.parent.mkdir(exist_ok=True)
    try:
        await asyncio.to_thread(prepare, part, log)
    except PreparationError as error:
        raise PartError(part, str(error), log) from error
    return start(part, log)


async def stays_up(part: Part, running: Running, log: Path) -> bool:
    """Wait until a running part answers; False when it is dead or dies meanwhile."""
    if not is_alive(running):
        return False
    try:
        await wait_until_ready(part, running, log)
    except PartError:
        if is_alive(running):
            raise
        return False
    return True


async def wait_until_ready(part: Part, running: Running, log: Path) -> None:
    """Return when `part` answers. Raises PartError when it dies first or takes too long."""
    deadline = time.monotonic() + READY_SECONDS
    while reason := await reason_not_ready(part.answers):
        if not is_alive(running):
            raise PartError(part, "died while starting", log)
        if time.monotonic() > deadline:
            raise PartError(part, f"is not ready after {READY_SECONDS:.0f} s: {reason}", log)
        await asyncio.sleep(POLL_SECONDS)
    if not is_alive(running):
        raise PartError(part, "died, and another process answers at its address", log)
