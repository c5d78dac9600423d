"""The location of a video in storage; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID


@dataclass(frozen=True)
class StorageLocation:
    """A storage by its identity, or by type and bucket if no identity was recorded."""

    storage_type: str
    s3_bucket: str | None
    storage_id: UUID | None = None

    def is_same(self, other: StorageLocation) -> bool:
        """Tell whether both are the same storage; equal names on different servers are not."""
        if self.storage_id is not None and other.storage_id is not None:
            return self.storage_id == other.storage_id
        return (self.storage_type, self.s3_bucket) == (other.storage_type, other.s3_bucket)

    def __str__(self) -> str:
        name = f"{self.storage_type} storage {self.s3_bucket or ''}".rstrip()
        return f"{name} ({self.storage_id})" if self.storage_id else name
