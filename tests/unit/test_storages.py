"""Several storages open at once: finding the storage of a video."""

from __future__ import annotations

from uuid import uuid4

import pytest

from shared.errors import StorageMismatch
from shared.storage.location import StorageLocation
from shared.storage.marker import Marker, read_identities, write_marker
from shared.storage.memory import MemoryStorage
from shared.storage.storages import Storages

A, B = uuid4(), uuid4()


def both(**values) -> Storages:
    return Storages(
        [
            MemoryStorage(kind="s3", bucket="videos", **values),
            MemoryStorage("s3", None, "videos", name="archive"),
        ]
    )


def found(storages: Storages, *location) -> str | None:
    storage = storages.find(StorageLocation(*location))
    return storage.name if storage else None


def test_storage_is_found_by_its_identity_when_two_have_the_same_bucket_name() -> None:
    storages = both()
    storages.identify("default", A)
    storages.identify("archive", B)
    assert [found(storages, "s3", "videos", each) for each in (A, B)] == ["default", "archive"]
    assert found(storages, "s3", "videos", uuid4()) is None


def test_storage_is_found_by_type_and_bucket_until_it_is_identified() -> None:
    storages = both()
    assert found(storages, "s3", "videos", A) is None, "it may be either"
    storages.identify("default", A)
    assert found(storages, "s3", "videos", B) == "archive"
    assert found(storages, "s3", "other", B) is None


def test_video_without_an_identity_is_in_the_default_storage_when_that_is_possible() -> None:
    storages = both()
    assert found(storages, "s3", "videos") == "default"
    assert found(storages, "local", None) is None


def test_two_names_for_one_storage_are_refused() -> None:
    storages = both()
    storages.identify("default", A)
    with pytest.raises(StorageMismatch, match="default and archive have the same marker"):
        storages.identify("archive", A)


async def test_identities_are_read_from_the_existing_markers() -> None:
    storages = both()
    await write_marker(storages.named("archive"), Marker(B))
    await read_identities(storages)
    assert [storage.storage_id for storage in storages] == [None, B]
    await write_marker(storages.default, Marker(A))
    await read_identities(storages)
    assert [storage.storage_id for storage in storages] == [A, B]


def test_unknown_name_is_refused_with_the_existing_names() -> None:
    with pytest.raises(StorageMismatch, match=r"named cold: add it .* which has default, archive"):
        both().named("cold")
