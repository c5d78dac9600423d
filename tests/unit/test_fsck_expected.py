"""Expected objects compared with stored ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.uploader.fsck.expected import compare, expected_objects
from shared.hls.renditions import KeyFrame, RenditionSet
from shared.videos import Audited, AuditedSegment
from tests.unit.video_values import ID, video

PREFIX = f"hls/alice/{ID}"
PRESENTATION = RenditionSet((("720p", 1280, 720), ("360p", 640, 360)), 25.0, 10)
CODECS = {"720p": "avc1.64001f,mp4a.40.2", "360p": "avc1.64001e,mp4a.40.2"}
SEGMENTS = tuple(
    AuditedSegment(name, index, index - 1, 1, f"chunks/{index - 1}/{name}.ts", 10.0, 1000 * index)
    for name in CODECS
    for index in (1, 2)
)
KEY_FRAMES = {(each.rendition, each.index): (KeyFrame(0.0, 188, 376),) for each in SEGMENTS}
PLAYLISTS = {
    f"{PREFIX}/{name}"
    for name in (
        "master.m3u8",
        *(f"{rendition}/{file}" for rendition in CODECS for file in ("playlist.m3u8", "iframes.m3u8")),
    )
}
SIZES = {f"{PREFIX}/{each.rendition}/segment_00{each.index}.ts": each.bytes for each in SEGMENTS}


def audited(**values: object) -> Audited:
    return Audited(
        video(
            **{
                "status": "ready",
                "presentation": PRESENTATION.to_json(),
                "thumbnail_url": "https://cdn.example.org/thumbnail.jpg",
                "bytes": 0,
            }
            | values
        ),
        None,
        SEGMENTS,
        CODECS,
        KEY_FRAMES,
    )


def whole(record: Audited) -> dict[str, int]:
    return {key: expected.bytes for key, expected in expected_objects(record).items()}


def test_ready_video_has_segments_and_every_playlist() -> None:
    found = expected_objects(audited())
    assert set(found) == SIZES.keys() | PLAYLISTS
    assert {key: found[key].bytes for key in SIZES} == SIZES
    assert {key for key, expected in found.items() if expected.chunk is None} == PLAYLISTS
    assert {found[key].chunk for key in SIZES if key.endswith("segment_002.ts")} == {1}


def test_thumbnail_has_the_rest_of_the_recorded_bytes() -> None:
    bare = sum(whole(audited()).values())
    assert f"{PREFIX}/thumbnail.jpg" not in expected_objects(audited(bytes=bare))
    assert expected_objects(audited(bytes=bare + 77))[f"{PREFIX}/thumbnail.jpg"].bytes == 77
    assert f"{PREFIX}/thumbnail.jpg" not in expected_objects(audited(bytes=bare + 77, thumbnail_url=None))


def test_failed_video_has_only_the_stored_segments() -> None:
    assert set(expected_objects(audited(status="failed", presentation=None))) == set(SIZES)


def test_video_that_failed_before_anything_was_stored_has_nothing() -> None:
    assert not expected_objects(replace(audited(status="failed"), segments=()))


def test_complete_video_has_no_fault_whatever_else_is_stored() -> None:
    record = audited()
    assert compare(record, whole(record) | {f"{PREFIX}/360p/segment_900.ts": 1}) == []


@pytest.mark.parametrize(("size", "kind"), [(None, "missing"), (1999, "wrong_size"), (0, "wrong_size")])
def test_fault_names_object_chunk_and_sizes(size: int | None, kind: str) -> None:
    record, key = audited(), f"{PREFIX}/360p/segment_002.ts"
    sizes = whole(record) | {key: size}
    (fault,) = compare(record, {name: each for name, each in sizes.items() if each is not None})
    assert fault.to_json() == {
        "kind": kind,
        "videoId": str(ID),
        "key": key,
        "chunk": 1,
        "expectedBytes": 2000,
        "foundBytes": size,
    }


def test_playlists_of_an_older_release_are_complete_when_their_bytes_add_up() -> None:
    record = audited()
    sizes = whole(record)
    older = {key: size - 9 if key in PLAYLISTS else size for key, size in sizes.items()}
    assert {fault.key for fault in compare(record, older)} == PLAYLISTS
    assert compare(audited(bytes=sum(older.values())), older) == []


def test_playlists_that_do_not_add_up_are_faults_beside_a_lost_segment() -> None:
    record = audited()
    sizes = whole(record)
    lost = {f"{PREFIX}/360p/segment_001.ts", f"{PREFIX}/360p/playlist.m3u8"}
    left = {key: size for key, size in sizes.items() if key not in lost}
    assert {fault.key for fault in compare(audited(bytes=sum(sizes.values())), left)} == lost


def test_records_that_lack_a_rendition_are_an_error() -> None:
    with pytest.raises(ValueError, match="360p"):
        compare(replace(audited(), codecs={"720p": CODECS["720p"]}), {})


def test_recorded_sizes_of_artifacts_are_expected() -> None:
    record = replace(audited(), artifacts={"thumbnail": 9, "of a later version": 5})
    assert whole(record)[f"{PREFIX}/thumbnail.jpg"] == 9
    lost = compare(record, whole(record) | {f"{PREFIX}/thumbnail.jpg": 8})
    assert [(fault.key, fault.kind) for fault in lost] == [(f"{PREFIX}/thumbnail.jpg", "wrong_size")]


def test_video_without_a_thumbnail_needs_none_when_sizes_are_recorded() -> None:
    assert f"{PREFIX}/thumbnail.jpg" not in whole(replace(audited(bytes=10**9), artifacts={}))
