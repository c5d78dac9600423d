"""Run ffmpeg with a progress bar."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Outcome:
    """The result of a run: exit status, seconds of media written, output."""

    status: int
    seconds: float
    complaints: str


async def run_ffmpeg(arguments: Sequence[str], at: Callable[[float], None]) -> Outcome:
    """Run ffmpeg, which must log errors only; `at` is called with the seconds of media written."""
    process = await asyncio.create_subprocess_exec(
        *("ffmpeg", "-v", "error", "-nostdin", "-nostats", "-progress", "pipe:1", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout  # noqa: S101 - a pipe was requested
    assert process.stderr  # noqa: S101
    try:
        seconds, said = await asyncio.gather(_follow(process.stdout, at), process.stderr.read())
        return Outcome(await process.wait(), seconds, said.decode(errors="replace").strip())
    finally:
        with suppress(ProcessLookupError):
            process.kill()


async def _follow(lines: asyncio.StreamReader, at: Callable[[float], None]) -> float:
    seconds = 0.0
    async for line in lines:
        name, _, value = line.decode().strip().partition("=")
        if name == "out_time_us" and value.lstrip("-").isdigit():
            seconds = int(value) / 1_000_000
            at(seconds)
    return seconds
