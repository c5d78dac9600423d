"""Warnings in a record: coded differences between a source and its video.

The codes are listed here and, for users, in docs/warnings.md; a test keeps both lists equal.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from shared.contracts.model import Model

if TYPE_CHECKING:
    from collections.abc import Iterable

SAME_MOMENT_SECONDS: Final = 1e-6


class WarningCode(StrEnum):
    """The subject of a warning. Codes may be added; their meaning never changes."""

    SOURCE_INCOMPLETE = "source_incomplete"
    SOURCE_DAMAGED = "source_damaged"
    SOURCE_GAP = "source_gap"
    STARTS_LATE = "starts_late"
    CLOCK_JUMP_CLOSED = "clock_jump_closed"
    RECORDINGS_JOINED = "recordings_joined"
    TIMES_CORRECTED = "times_corrected"
    RATE_REDUCED = "rate_reduced"
    AUDIO_LEFT_OUT = "audio_left_out"
    AUDIO_TRACK_REPLACED = "audio_track_replaced"
    AUDIO_TRACKS_LEFT_OUT = "audio_tracks_left_out"
    AUDIO_DIFFERS = "audio_differs"
    PICTURE_DIFFERS = "picture_differs"
    PICTURE_FROZEN = "picture_frozen"
    SLOWER_DECODING = "slower_decoding"
    ENCODED_ON_CPU = "encoded_on_cpu"
    THUMBNAIL_MISSING = "thumbnail_missing"
    STORAGE_WAITING = "storage_waiting"
    SOURCE_WAITING = "source_waiting"
    QUALITY_UNAVAILABLE = "quality_unavailable"
    NOTE = "note"


MEANINGS: Final[dict[WarningCode, str]] = {
    WarningCode.SOURCE_INCOMPLETE: (
        "the file ends before what it declares: an upload or a copy was cut off; or what follows the first"
        " recording in it cannot be read (Ogg)"
    ),
    WarningCode.SOURCE_DAMAGED: "part of the source cannot be decoded: held pictures or silence replace it",
    WarningCode.SOURCE_GAP: "pictures or sound are missing within it: held pictures or silence fill in",
    WarningCode.STARTS_LATE: "what precedes the first complete picture cannot be decoded and is left out",
    WarningCode.CLOCK_JUMP_CLOSED: "the timestamps jump without any content in between: the gap is closed",
    WarningCode.RECORDINGS_JOINED: "the timestamps start again: the recordings follow each other",
    WarningCode.TIMES_CORRECTED: "a few timestamps are far from those around them and were corrected",
    WarningCode.RATE_REDUCED: "the frame rate was reduced because few pictures are shown for very long",
    WarningCode.AUDIO_LEFT_OUT: "the source has sound that cannot be converted: the video is silent",
    WarningCode.AUDIO_TRACK_REPLACED: (
        "the default audio track is empty or silent throughout: another one is used"
    ),
    WarningCode.AUDIO_TRACKS_LEFT_OUT: (
        "the source has one audio track for each channel, and more of them than are converted"
    ),
    WarningCode.AUDIO_DIFFERS: "the sound is louder or quieter than the source's",
    WarningCode.PICTURE_DIFFERS: "pictures do not look like the source's: content, colour, shape or combing",
    WarningCode.PICTURE_FROZEN: "the picture is frozen while the source's moves",
    WarningCode.SLOWER_DECODING: "a chunk was encoded with a slower method; nothing is missing",
    WarningCode.ENCODED_ON_CPU: "a chunk was encoded on the CPU because the GPU failed; nothing is missing",
    WarningCode.THUMBNAIL_MISSING: "no thumbnail could be made",
    WarningCode.STORAGE_WAITING: "the storage is unavailable: the video waits and continues automatically",
    WarningCode.SOURCE_WAITING: "the server of the source is unavailable: the video waits for it",
    WarningCode.QUALITY_UNAVAILABLE: "a requested quality is larger than the source",
    WarningCode.NOTE: "a warning of an earlier version, as a sentence without data",
}


class VideoWarning(Model):
    """One warning; times are in seconds of the finished video, null if the whole video is affected."""

    code: Annotated[str, Field(examples=[str(code) for code in WarningCode])]
    message: str
    start_seconds: float | None = None
    end_seconds: float | None = None


WAITS_FOR_STORAGE: Final = VideoWarning(
    code=WarningCode.STORAGE_WAITING,
    message="The storage is unavailable: the video waits and continues by itself",
)


def merge_warnings(warnings: Iterable[VideoWarning]) -> tuple[VideoWarning, ...]:
    """Return `warnings` sorted by time; adjacent ones with equal code and message are merged."""
    kinds: dict[tuple[str, str], list[VideoWarning]] = {}
    for warning in warnings:
        kinds.setdefault((warning.code, warning.message), []).append(warning)
    merged = [one for kind in kinds.values() for one in _merge_kind(kind)]
    return tuple(sorted(merged, key=_start))


def _merge_kind(warnings: list[VideoWarning]) -> list[VideoWarning]:
    timed = sorted((warning for warning in warnings if warning.start_seconds is not None), key=_start)
    merged = [warning for warning in warnings if warning.start_seconds is None][:1]
    for warning in timed:
        if merged and _touches(merged[-1], warning):
            end = max(_end(merged[-1]), _end(warning))
            merged[-1] = merged[-1].model_copy(update={"end_seconds": end})
        else:
            merged.append(warning)
    return merged


def _start(warning: VideoWarning) -> float:
    return warning.start_seconds or 0.0


def _end(warning: VideoWarning) -> float:
    return _start(warning) if warning.end_seconds is None else warning.end_seconds


def _touches(before: VideoWarning, after: VideoWarning) -> bool:
    """Return whether `after`, which does not start earlier, starts within `before` or at its end."""
    return before.start_seconds is not None and _start(after) <= _end(before) + SAME_MOMENT_SECONDS
