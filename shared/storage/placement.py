"""Chooses the storage of a video, considering who can read it there; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from shared.errors import PrivateNotPossible, UnknownStorage
from shared.names import DEFAULT_STORAGE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.storage.location import StorageLocation

Visibility = Literal["public", "private"]


class Configured(Protocol):
    """The settings of a storage that matter for the choice."""

    @property
    def storage_type(self) -> Literal["local", "s3"]: ...
    @property
    def s3_bucket(self) -> str: ...
    @property
    def s3_public_url(self) -> str: ...
    @property
    def is_public(self) -> bool: ...
    @property
    def takes_private(self) -> bool: ...
    @property
    def is_choosable(self) -> bool: ...


@dataclass(frozen=True)
class StorageWish:
    """The input of the choice: the name in the upload or event, the user's storage, the visibility."""

    upload: str | None
    user: str | None
    visibility: Visibility


@dataclass(frozen=True)
class StorageRules:
    """The configured storages by name, and the default visibility."""

    by_name: Mapping[str, Configured]
    default_visibility: Visibility = "public"

    def visibility(self, given: Visibility | None) -> Visibility:
        """Return the visibility of a new video."""
        return given or self.default_visibility

    def choose(self, wish: StorageWish) -> str:
        """Return the name of the storage for a video.

        A private video goes to a private storage if its user's, or the default one, is public. Raises
        UnknownStorage, PrivateNotPossible.
        """
        name = wish.upload or wish.user or DEFAULT_STORAGE
        self.expect_known(name)
        if wish.visibility == "public" or not self.by_name[name].is_public:
            return name
        private = [each for each, storage in self.by_name.items() if storage.takes_private]
        if wish.upload or not private:
            raise PrivateNotPossible(
                f"visibility: a private video is not possible in the storage {name}, because anyone can "
                "read it under S3_PUBLIC_URL; add a private storage to STORAGES, or unset S3_PUBLIC_URL"
            )
        return private[0]

    def expect_known(self, name: str) -> None:
        """Raise UnknownStorage unless a storage has the name."""
        if name not in self.by_name:
            raise UnknownStorage(
                f"storage: no storage is named {name}; valid names: {', '.join(self.by_name)}"
            )

    def expect_choosable(self, name: str) -> None:
        """Raise UnknownStorage for a storage that users may not choose."""
        allowed = [each for each, storage in self.by_name.items() if storage.is_choosable]
        if name not in allowed:
            known = ", ".join(allowed) or "there is none"
            raise UnknownStorage(f"storage: {name} is not one that users may choose: {known}")

    def expect_private(self, location: StorageLocation, name: str | None) -> None:
        """Raise PrivateNotPossible if anyone can, or may be able to, read the video in its storage."""
        same = _same_place(self.by_name, location)
        if not same:
            raise PrivateNotPossible(
                f"visibility: the video is in {location}, which is not configured here, so anyone may be "
                "able to read it; add its storage to STORAGES first"
            )
        found = [same[name]] if name in same else list(same.values())
        if any(storage.is_public for storage in found):
            raise PrivateNotPossible(
                "visibility: anyone can read this video under S3_PUBLIC_URL of its storage; move it to a"
                " private storage first (python -m services.uploader storage move)"
            )

    def expect_no_public_copy(self, name: str | None) -> None:
        """Raise PrivateNotPossible while anyone can read a copy of a moved video.

        A storage that is not configured here counts as public.
        """
        storage = self.by_name.get(name) if name else None
        if storage is None or storage.is_public:
            raise PrivateNotPossible(
                "visibility: the video is being moved, and anyone can, or may be able to, read its copy in "
                f"the storage {name or 'without a name'}; try again after the move (MOVE_GRACE_SECONDS)"
            )


def find_configured(
    by_name: Mapping[str, Configured], location: StorageLocation, name: str | None
) -> Configured | None:
    """Return the settings of the storage that a video is in; None if it is not configured.

    `name` is its name in the uploader's settings, if known.
    """
    same = _same_place(by_name, location)
    return same.get(name) if name else next(iter(same.values()), None)


def _same_place(by_name: Mapping[str, Configured], location: StorageLocation) -> dict[str, Configured]:
    """Return the storages, by name, that have a location's type and bucket."""
    return {
        each: storage
        for each, storage in by_name.items()
        if storage.storage_type == location.storage_type
        and (storage.storage_type == "local" or storage.s3_bucket == location.s3_bucket)
    }
