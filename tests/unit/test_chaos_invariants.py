"""The invariant checks find each kind of damage, and nothing where there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.invariants.checks import check
from tests.chaos.invariants.values import (
    Accepted,
    Chunk,
    Event,
    Expected,
    Letter,
    Row,
    Segment,
    Snapshot,
    Stored,
    Unsent,
)

VIDEO, OTHER = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"
PREFIX = f"hls/alice/{VIDEO}"
MADE = f"chunks/{VIDEO}/00000-1"
READY = Row(VIDEO, "alice", "ready", bytes=160, renditions=("180p",))
WHOLE = Snapshot(
    rows={VIDEO: READY},
    chunks=(Chunk(VIDEO, 0, "stored"),),
    segments=(Segment(VIDEO, "180p", 1, 100, MADE),),
    objects={
        f"{PREFIX}/180p/segment_001.ts": Stored(100),
        f"{PREFIX}/180p/playlist.m3u8": Stored(20),
        f"{PREFIX}/180p/iframes.m3u8": Stored(15),
        f"{PREFIX}/master.m3u8": Stored(15),
        f"{PREFIX}/thumbnail.jpg": Stored(10),
    },
    files=(f"originals/{VIDEO}/source", f"{MADE}/180p/segment_001.ts"),
    events=(Event("e1", "video.stored", VIDEO), Event("e1", "video.stored", VIDEO)),
    waiting={"uploader.store": 0},
)
EXPECTED = Expected(accepted={VIDEO: Accepted(VIDEO, retries=0)})


def kinds(seen, expected=EXPECTED):
    return {kind: len(found) for kind, found in check(seen, expected).items() if found}


def row(**changes):
    return replace(WHOLE, rows={VIDEO: replace(READY, **changes)})


def objects(*gone, **more):
    left = {key: stored for key, stored in WHOLE.objects.items() if not key.endswith(gone or ("?",))}
    return replace(WHOLE, objects=left | {key.replace("__", "/"): Stored(size) for key, size in more.items()})


def test_check_finds_nothing_when_all_is_intact_and_an_event_arrived_twice():
    assert kinds(WHOLE) == {}


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        (replace(WHOLE, rows={}, chunks=(), segments=(), events=(), objects={}, files=()), {"lost": 1}),
        (replace(row(status="processing"), events=()), {"lost": 1}),
        (replace(row(status="failed"), events=(Event("e1", "video.failed", VIDEO),)), {"lost": 1}),
        (replace(WHOLE, events=()), {"lost": 1}),
        (replace(WHOLE, events=(*WHOLE.events, Event("e2", "video.stored", VIDEO))), {"doubled": 1}),
        (replace(WHOLE, events=(*WHOLE.events, Event("e2", "video.failed", VIDEO))), {"doubled": 1}),
        (replace(WHOLE, events=(*WHOLE.events, Event("e2", "video.failed", OTHER))), {"lost": 1}),
        (replace(WHOLE, events=(*WHOLE.events, Event("e2", "video.failed", OTHER, "invalid_event"))), {}),
    ],
    ids=[
        *("unknown", "processing", "failed", "untold", "stored twice", "failed and stored", "of no video"),
        "refused",
    ],
)
def test_check_counts_how_often_videos_ended(seen, found):
    assert kinds(seen) == found


def test_check_finds_what_a_process_keeps_in_its_scratch():
    seen = replace(WHOLE, scratch=(f"transcoder-1/{MADE}/180p/segment_001.ts",))
    assert kinds(seen) == {"orphans": 1}


def test_check_counts_a_retry_as_a_second_run_with_its_own_end():
    events = (*WHOLE.events, Event("e2", "video.failed", VIDEO))
    seen = replace(row(run=2), events=events)
    once = Expected(accepted={VIDEO: Accepted(VIDEO, retries=1)})
    assert kinds(seen, once) == {}
    assert kinds(seen) == {"doubled": 1}, "it ran twice without a retry"
    twice = Expected(accepted={VIDEO: Accepted(VIDEO, retries=2)})
    assert kinds(seen, twice) == {"lost": 1}, "a retry that was answered with 202 never took place"


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        (objects("segment_001.ts"), {"damaged": 2}),
        (objects("playlist.m3u8"), {"damaged": 2}),
        (objects("master.m3u8"), {"damaged": 2}),
        (row(bytes=159), {"damaged": 1}),
        (row(renditions=("180p", "90p")), {"damaged": 1}),
        (replace(WHOLE, segments=(replace(WHOLE.segments[0], bytes=99),)), {"damaged": 1}),
    ],
    ids=["no segment", "no playlist", "no master", "other sum", "no rendition", "truncated"],
)
def test_check_reports_recorded_objects_that_are_missing(seen, found):
    assert kinds(seen) == found


@pytest.mark.parametrize(
    "key",
    [f"{PREFIX}/180p/segment_002.ts", f"hls/alice/{OTHER}/master.m3u8", f"hls/bob/{VIDEO}/master.m3u8", "x"],
)
def test_check_finds_an_orphan_when_an_object_is_not_recorded(key):
    seen = replace(WHOLE, objects={**WHOLE.objects, key: Stored(0)})
    assert kinds(seen) == {"orphans": 1}


def test_check_requires_that_nothing_is_left_of_a_deleted_video():
    deleted = Expected(accepted={VIDEO: Accepted(VIDEO, frozenset({"deleted"}))})
    gone = replace(row(status="deleted", is_purged=True), objects={}, chunks=(), segments=(), files=())
    assert kinds(gone, deleted) == {}
    assert kinds(replace(gone, files=(f"originals/{VIDEO}/source",)), deleted) == {"orphans": 1}
    left = {f"{PREFIX}/master.m3u8": Stored(1)}
    assert kinds(replace(gone, objects=left), deleted) == {"orphans": 1}
    assert kinds(replace(gone, rows=row(status="deleted").rows), deleted) == {"stuck": 1}


@pytest.mark.parametrize(
    "path",
    [
        f"uploads/{OTHER}.part",
        f"originals/{OTHER}/source",
        f"originals/{VIDEO}/source.0f.part",
        f"chunks/{VIDEO}/00000-2/180p/segment_001.ts",
    ],
)
def test_check_counts_files_of_a_dead_process_as_orphans_only_when_sweeps_run(path):
    seen = replace(WHOLE, files=(*WHOLE.files, path))
    assert kinds(seen) == {"unswept": 1}
    assert kinds(seen, replace(EXPECTED, sweeps=True)) == {"orphans": 1}


def test_check_allows_no_local_file_of_a_ready_video_when_they_are_to_be_removed():
    assert kinds(WHOLE, replace(EXPECTED, keeps_local=False)) == {"unswept": 2}
    assert kinds(replace(WHOLE, files=()), replace(EXPECTED, keeps_local=False)) == {}


def test_check_finds_an_upload_that_is_never_completed():
    seen = replace(WHOLE, uploads=("some/key",))
    assert kinds(seen) == {"unswept": 1}
    assert kinds(seen, replace(EXPECTED, sweeps=True)) == {"open_uploads": 1}


@pytest.mark.parametrize(
    "seen",
    [
        replace(WHOLE, unsent=(Unsent(VIDEO, "video.stored", 5.0),)),
        replace(WHOLE, waiting={"uploader.store": 1}),
        replace(WHOLE, chunks=(Chunk(VIDEO, 0, "encoded"),)),
        replace(WHOLE, chunks=(Chunk(VIDEO, 0, "stored", is_leased=True),)),
        row(is_leased=True),
    ],
    ids=["outbox", "queue", "chunk", "lease of a chunk", "lease of a plan"],
)
def test_check_finds_work_that_does_not_finish(seen):
    assert kinds(seen) == {"stuck": 1}


def test_check_accepts_only_expected_dead_letters():
    seen = replace(WHOLE, letters=(Letter("transcoder.plan", b"nonsense"),))
    assert kinds(seen) == {"foreign_dead_letters": 1}
    assert kinds(seen, replace(EXPECTED, dead_letters=frozenset({b"nonsense"}))) == {}
