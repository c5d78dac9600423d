"""Errors of the storage."""

from __future__ import annotations

from typing import Final

from shared.errors.base import Deferred, TransientError

WORK_VOLUME_SECONDS: Final = 5.0  # delay before another worker tries


class StorageUnavailable(TransientError):
    """The storage did not answer or is overloaded: retrying may help, except for the subclasses."""

    reason = "storage_unavailable"


class StorageRefused(StorageUnavailable):
    """The storage rejected the request until credentials, permissions, bucket or settings are corrected."""

    reason = "storage_refused"


class StorageFull(StorageRefused):
    """A quota is exhausted, or the storage has no space left."""

    reason = "storage_full"


class StorageMismatch(StorageRefused):
    """The configured storage is not the one named in the records."""

    reason = "storage_mismatch"


class WorkVolumeUnavailable(Deferred):
    """The work volume or bucket is the wrong one, or unusable: another worker has to do the work."""

    reason = "work_volume_unavailable"

    def __init__(self, message: str) -> None:
        super().__init__(message, seconds=WORK_VOLUME_SECONDS)


class WorkBucketUnavailable(WorkVolumeUnavailable):
    """The work bucket did not answer, is overloaded, or refused a request, as its storage's error says.

    A video that waits for it too long fails as one that waits for the storage does.
    """

    def __init__(self, message: str, kind: type[StorageUnavailable] = StorageUnavailable) -> None:
        super().__init__(message)
        self.reason = kind.reason


class StorageInconsistent(TransientError):
    """The storage answers, but does not keep what it accepted: objects are missing or have another size."""

    reason = "storage_inconsistent"
