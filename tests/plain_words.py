"""What a refusal of a source must be: plain words, and an end without another try."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from shared.messaging.retry_policy import RetryPolicy
from shared.messaging.verdicts import Delivery, GiveUp, decide

if TYPE_CHECKING:
    from shared.errors import PermanentError

NOW: Final = datetime(2026, 1, 2, tzinfo=UTC)
# Of programs and their logs: of no use to users.
WORDS: Final = (
    "ffmpeg",
    "ffprobe",
    "libav",
    "@ 0x",
    "Traceback",
    "Errno",
    "Error while",
    "Invalid data",
    "no reason",
)


def assert_plain(error: PermanentError, log: str = "") -> None:
    """Check that users can read an error, and that it ends the video without another try."""
    assert not [word for word in WORDS if word in error.message], error.message
    assert len(error.message) > 20
    assert "\n" not in error.message
    assert not [line for line in log.splitlines() if line and line in error.message]
    verdict = decide(error, Delivery(), RetryPolicy(3, 2.0), NOW)
    assert isinstance(verdict, GiveUp)
    assert not verdict.retryable
