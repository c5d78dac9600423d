from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from services.streamer.access_rules import Access
from services.streamer.availability import Availability
from services.streamer.edge_cache_policy import CLIENT_CACHE, FOLDER, VERSION, admission
from shared.hls.renditions import StoredSegment
from shared.storage.memory import MemoryStorage
from tests.unit.video_values import video

if TYPE_CHECKING:
    from services.streamer.edge_cache_policy import Admission
    from shared.videos import Video

HOME = MemoryStorage()
NOW = 1_000_000


def ready(**changes: object) -> Video:
    return replace(video(status="ready", storage_type="local", s3_key="hls/alice/v"), **changes)


def given(known: Video, access: Access, *, now: int = NOW) -> Admission | None:
    return admission(Availability(known), access, HOME, now=now)


def seconds_kept(found: Admission) -> int:
    """Return for how long the edge may use an admission, whatever happens."""
    numbers = {name: int(number) for name, number in re.findall(r"([a-z-]+)=(\d+)", found.cache)}
    return numbers["max-age"] + max(numbers["stale-while-revalidate"], numbers["stale-if-error"])


def test_admission_names_folder_version_and_the_header_for_players() -> None:
    known = ready(run=3)
    found = given(known, Access())
    assert found is not None
    assert found.headers[FOLDER] == "hls/alice/v"
    assert found.headers[VERSION] == f"{known.video_id}-3-ready"
    assert found.headers[CLIENT_CACHE] == "public, max-age=31536000, immutable"
    assert found.headers["Cache-Control"] == "max-age=1, stale-while-revalidate=3, stale-if-error=3600"


def test_segments_that_may_still_be_replaced_are_kept_apart_from_those_of_a_ready_video() -> None:
    growing = video(status="processing", storage_type="local", run=3)
    segments = (StoredSegment("720p", 1, 10.0, 1),)
    found = admission(Availability(growing, segments=segments), Access(), HOME, now=NOW)
    assert found is not None
    assert found.headers[VERSION] == f"{growing.video_id}-3-growing"


@pytest.mark.parametrize("left", [3, 4, 5, 10, 100, 10_000])
def test_admission_ends_before_its_grant(left: int) -> None:
    found = given(ready(), Access(shared_until=NOW + left))
    assert found is not None
    assert seconds_kept(found) <= left - 2  # nginx and we count whole seconds
    assert found.client_cache.startswith("public, max-age=")


@pytest.mark.parametrize("left", [-5, 0, 1, 2])
def test_admission_is_left_to_the_streamer_when_the_grant_is_about_to_end(left: int) -> None:
    assert given(ready(), Access(shared_until=NOW + left)) is None


def test_admission_is_refused_for_files_that_are_not_served_here() -> None:
    assert given(ready(status="deleted"), Access()) is None
    assert given(video(), Access()) is None, "nothing is stored yet"


@pytest.mark.parametrize("storage", [MemoryStorage(kind="s3"), MemoryStorage(name="archive")])
def test_admission_names_no_folder_when_the_edge_cannot_read_the_files(storage: MemoryStorage) -> None:
    found = admission(Availability(ready()), Access(), storage, now=NOW)
    assert found is not None
    assert found.folder == ""
