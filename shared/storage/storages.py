"""All configured storages, open at the same time; each video is in one of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from shared.errors import StorageMismatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from uuid import UUID

    from shared.storage.interface import Storage
    from shared.storage.location import StorageLocation


class Storages:
    """The storages by name, the default one first. A storage is identified once its marker was read."""

    def __init__(self, opened: Iterable[Storage]) -> None:
        self._by_name = {storage.name: storage for storage in opened}
        self._found: dict[StorageLocation, Storage | None] = {}

    def __iter__(self) -> Iterator[Storage]:
        return iter(list(self._by_name.values()))

    @property
    def default(self) -> Storage:
        """The storage that the environment configures."""
        return next(iter(self._by_name.values()))

    def named(self, name: str) -> Storage:
        """Return a storage by name. Raises StorageMismatch if there is none."""
        if name not in self._by_name:
            raise StorageMismatch(
                f"no storage is named {name}: add it to the STORAGES file, which has {self._names()}"
            )
        return self._by_name[name]

    def by_id(self, storage_id: UUID) -> Storage | None:
        """Return the storage with an identity; None if no identified storage has it."""
        return next((storage for storage in self if storage.storage_id == storage_id), None)

    def find(self, location: StorageLocation) -> Storage | None:
        """Return the storage of a location; None when it is not configured.

        Compares identities. If the storage is not identified yet, or the video is older than identities,
        compares type and bucket; then also None if several match.
        """
        if location not in self._found:
            self._found[location] = self._find(location)
        return self._found[location]

    def _find(self, location: StorageLocation) -> Storage | None:
        same = [storage for storage in self if storage.location.is_same(location)]
        exact = [
            storage for storage in same if storage.storage_id and storage.storage_id == location.storage_id
        ]
        if exact:
            return exact[0]
        if location.storage_id is None and self.default in same:
            return self.default
        return same[0] if len(same) == 1 else None

    def identify(self, name: str, storage_id: UUID) -> Storage:
        """Record the identity of a storage, and return the storage.

        Raises StorageMismatch if another one has it.
        """
        for other in self:
            if other.name != name and other.storage_id == storage_id:
                raise StorageMismatch(
                    f"the storages {other.name} and {name} have the same marker, {storage_id}: they are one"
                    " storage under two names, or one is a copy of the other; remove one from STORAGES"
                )
        identified = cast("Storage", replace(cast("Any", self._by_name[name]), storage_id=storage_id))
        self._by_name[name] = identified
        self._found.clear()
        return identified

    def _names(self) -> str:
        return ", ".join(self._by_name)
