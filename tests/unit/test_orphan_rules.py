"""Whether a file or object is owned, from its name and the record only."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from services.uploader.maintenance.orphan_rules import (
    expected_keys,
    owner_of_key,
    owns_chunk_file,
    owns_original,
)
from shared.hls.renditions import StoredSegment
from shared.videos import Attempt, Owner

VIDEO = UUID("6d1e4a7c-93b2-4f0e-8a55-0c2f9be37a14")


def owner(
    status="processing",
    *,
    purged=False,
    planned=True,
    planning=False,
    storage="s3",
    chunk="encoded",
    alive=False,
):
    current = Attempt(chunk, 2, alive)
    path = f"chunks/{VIDEO}/thumbnail.3.jpg" if planned else None
    return Owner(VIDEO, "alice", status, purged, planned, planning, path, storage, None, {0: current})


def owns(video, name="00000-2", *, deletes_local=False):
    return owns_chunk_file(video, name, deletes_local=deletes_local)


@pytest.mark.parametrize("name", ["00000-1", "00000-2", "thumbnail.3.jpg"])
def test_chunk_files_have_no_owner_when_nothing_may_be_left_of_the_video(name):
    assert not owns(None, name)
    assert not owns(owner("deleted", purged=True), name)


def test_deletion_owns_what_it_has_not_purged_yet():
    assert owns(owner("deleted"), "00000-1")
    assert owns_original(owner("deleted"), "source", deletes_local=True)


@pytest.mark.parametrize("status", ["processing", "failed"])
@pytest.mark.parametrize(("name", "expected"), [("00000-1", False), ("00000-2", True), ("00000-3", True)])
def test_only_the_current_attempt_is_owned_when_the_video_is_not_done(status, name, expected):
    assert owns(owner(status), name) is expected


@pytest.mark.parametrize(
    ("chunk", "name", "expected"),
    [
        ("pending", "00000-1", True),
        ("encoding", "00000-1", True),
        ("encoded", "00000-1", True),
        ("pending", "00000-2", False),
        ("encoding", "00000-0", False),
    ],
)
def test_attempt_from_which_a_later_one_continues_is_owned(chunk, name, expected):
    attempts = {0: Attempt(chunk, 2, False, frozenset({1}))}
    assert owns(replace(owner(chunk=chunk), attempts=attempts), name) is expected


def test_attempt_is_owned_when_its_chunk_needs_it():
    for status, deletes_local, expected in (
        ("pending", False, False),  # released: the next one has another number
        ("encoded", True, True),
        ("stored", False, True),
        ("stored", True, False),
    ):
        assert owns(owner(chunk=status), deletes_local=deletes_local) is expected


def test_attempt_that_is_encoding_is_owned_while_it_can_still_finish():
    for status, alive, expected in (
        ("processing", True, True),
        ("processing", False, True),
        ("failed", True, True),
        ("failed", False, False),
    ):
        assert owns(owner(status, chunk="encoding", alive=alive)) is expected


@pytest.mark.parametrize(
    ("storage", "deletes_local", "expected"),
    [("local", False, False), ("s3", True, False), ("s3", False, True)],
)
def test_ready_video_owns_its_attempts_only_when_local_files_stay(storage, deletes_local, expected):
    assert owns(owner("ready", storage=storage), deletes_local=deletes_local) is expected
    assert not owns(owner("ready", storage=storage), "00000-1", deletes_local=deletes_local)


def test_thumbnail_is_owned_when_the_record_names_it_or_may_still_do_so():
    assert owns(owner(), "thumbnail.3.jpg")
    assert not owns(owner(), "thumbnail.2.jpg")
    assert owns(owner(planned=False), "thumbnail.2.jpg")


def test_pictures_of_a_thumbnail_are_owned_until_there_is_a_plan():
    assert owns(owner(planned=False), "thumbnail.3.q1_x.parts")
    assert not owns(owner(), "thumbnail.3.q1_x.parts")


@pytest.mark.parametrize("video", [None, owner(), owner("ready"), owner("deleted", purged=True)])
def test_names_that_we_do_not_write_are_left_alone(video):
    assert owns(video, "notes.txt")
    assert owns_original(video, "film.mp4", deletes_local=True)


@pytest.mark.parametrize(
    ("status", "deletes_local", "expected"),
    [("ready", True, False), ("ready", False, True), ("failed", True, True), ("processing", True, True)],
)
def test_original_is_owned_until_the_video_is_stored_elsewhere(status, deletes_local, expected):
    assert owns_original(owner(status), "source", deletes_local=deletes_local) is expected
    assert not owns_original(None, "source", deletes_local=deletes_local)


def test_fetched_part_is_owned_while_a_worker_plans():
    part = f"source.{'a' * 32}.part"
    assert owns_original(owner(planning=True, planned=False), part, deletes_local=False)
    assert not owns_original(owner(), part, deletes_local=False)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (f"hls/alice/{VIDEO}/master.m3u8", ("alice", VIDEO)),
        (f"hls/alice/{VIDEO}/720p/segment_001.ts", ("alice", VIDEO)),
        (f"hls/alice/{VIDEO}", None),
        (f"hls/alice/{str(VIDEO).upper()}/master.m3u8", None),
        (f"hls/a.b/{VIDEO}/master.m3u8", None),
        (f"other/alice/{VIDEO}/master.m3u8", None),
        ("hls/alice/holiday/master.m3u8", None),
        ("hls/readme.txt", None),
    ],
)
def test_owner_of_key_is_known_only_when_we_may_have_written_it(key, expected):
    assert owner_of_key(key) == expected


def test_expected_keys_name_the_whole_tree():
    segments = [StoredSegment(name, index, 10.0, 5) for name in ("720p", "360p") for index in (1, 1000)]
    assert expected_keys("hls/alice/x", segments) == {
        "hls/alice/x/master.m3u8",
        "hls/alice/x/thumbnail.jpg",
        *(
            f"hls/alice/x/{name}/{file}"
            for name in ("720p", "360p")
            for file in ("playlist.m3u8", "iframes.m3u8", "segment_001.ts", "segment_1000.ts")
        ),
    }
