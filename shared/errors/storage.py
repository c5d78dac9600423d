"""Errors of the storage."""

from __future__ import annotations

from shared.errors.kinds import TransientError


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


class StorageInconsistent(TransientError):
    """The storage answers, but does not keep what it accepted: objects are missing or have another size."""

    reason = "storage_inconsistent"
