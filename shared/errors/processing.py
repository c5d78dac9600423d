"""Errors of processing a video."""

from __future__ import annotations

from shared.errors.base import Deferred, TransientError

OUT_OF_DISK_SECONDS = 30.0  # a volume rarely empties faster, and each retry costs a check


class OutOfDisk(Deferred):
    """The work volume is too full: start, or start again, when there is space."""

    reason = "insufficient_storage"

    def __init__(self, message: str, seconds: float = OUT_OF_DISK_SECONDS) -> None:
        super().__init__(message, seconds=seconds)


class EncodeFailed(TransientError):
    reason = "encode_failed"


class EncodeStalled(TransientError):
    reason = "encode_stalled"


class SegmentsLost(TransientError):
    """The files of a chunk were lost repeatedly after encoding: the work volume loses files."""

    reason = "segments_lost"


class WorkerLost(TransientError):
    """The work was started repeatedly and never finished: it probably kills its workers."""

    reason = "worker_lost"


class Stalled(TransientError):
    """The video makes no progress although its work was announced again several times."""

    reason = "stalled"
