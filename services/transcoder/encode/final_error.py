"""The error for users when no strategy is left for a chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from shared.errors import CorruptSource, NotConvertible

if TYPE_CHECKING:
    from services.transcoder.plan.model import Chunk, Plan
    from shared.errors import EncodeFailed

DAMAGE: Final = ("Invalid data found", "frames were written instead of", "was not written")

log = structlog.get_logger()


def final_error(plan: Plan, chunk: Chunk, error: EncodeFailed) -> CorruptSource | NotConvertible:
    """Return the permanent error for users when all strategies have failed.

    ffmpeg's messages are for operators and go to the log.
    """
    log.error("chunk_not_convertible", chunk=chunk.index, error=error.message)
    begin, end = (float(frame / plan.rate) for frame in (chunk.first_frame, chunk.end_frame))
    where = f"between {begin:.0f} s and {end:.0f} s"
    if any(words in str(error) for words in DAMAGE):
        return CorruptSource(f"the source is too damaged to convert {where}: send an undamaged copy")
    return NotConvertible(
        f"the source cannot be converted {where}: send it in another format, such as MP4 with H.264 and AAC"
    )
