"""What players get of a video in each of its states."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from services.streamer.availability import (
    Availability,
    Refused,
    Rendered,
    RequestedFile,
    Stored,
    availability_so_far,
    resolve,
)
from shared.contracts.events import Rendition
from shared.hls.renditions import RenditionSet, StoredSegment
from tests.unit.video_values import video as record

if TYPE_CHECKING:
    from shared.videos import Video

VIDEO_ID = UUID("00000000-0000-4000-8000-000000000001")
PRESENTATION = RenditionSet((("720p", 1280, 720), ("360p", 640, 360)), 25.0, 10)
CODECS = {"720p": "avc1.64001f,mp4a.40.2", "360p": "avc1.64001e,mp4a.40.2"}
MASTER, PLAYLIST = RequestedFile(None, "master.m3u8"), RequestedFile("720p", "playlist.m3u8")
SEGMENT, THUMBNAIL = RequestedFile("720p", "segment_002.ts"), RequestedFile(None, "thumbnail.jpg")
EVERY = (MASTER, PLAYLIST, SEGMENT, THUMBNAIL)


def video(**values: Any) -> Video:
    return record(**{"video_id": VIDEO_ID, "presentation": PRESENTATION.to_json()} | values)


def ready(**values: Any) -> Video:
    place = {"storage_type": "local", "s3_bucket": None, "s3_key": f"hls/alice/{VIDEO_ID}"}
    return video(**({"status": "ready"} | place | values))


def stored(large: int, small: int) -> tuple[StoredSegment, ...]:
    return tuple(
        StoredSegment(name, index, 10.0, 1000)
        for name, count in (("720p", large), ("360p", small))
        for index in range(1, count + 1)
    )


def growing(large: int, small: int, **values: Any) -> Availability:
    return availability_so_far(video(**values), PRESENTATION, stored(large, small), CODECS)


@pytest.mark.parametrize("asked", EVERY)
def test_decide_refuses_when_the_video_is_unknown_or_deleted(asked: RequestedFile) -> None:
    for availability in (None, Availability(video(status="deleted"))):
        answer = resolve(availability, asked, is_configured=True)
        assert isinstance(answer, Refused)
        assert (answer.status, answer.reason) == (404, "not_found")


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        (MASTER, "master.m3u8"),
        (PLAYLIST, "720p/playlist.m3u8"),
        (SEGMENT, "720p/segment_002.ts"),
        (THUMBNAIL, "thumbnail.jpg"),
    ],
)
def test_decide_names_the_key_of_the_record_when_the_video_is_ready(asked: RequestedFile, path: str) -> None:
    assert resolve(Availability(ready()), asked, is_configured=True) == Stored(f"hls/alice/{VIDEO_ID}/{path}")
    moved = ready(storage_type="s3", s3_bucket="videos", s3_key="hls/old/place")
    assert resolve(Availability(moved), asked, is_configured=True) == Stored(f"hls/old/place/{path}")


@pytest.mark.parametrize("status", ["processing", "failed"])
@pytest.mark.parametrize("asked", EVERY)
def test_decide_serves_all_of_a_video_that_was_ready_while_it_is_repaired(
    asked: RequestedFile, status: str
) -> None:
    rendition = Rendition(
        name="720p",
        width=1280,
        height=720,
        bandwidth=1,
        average_bandwidth=1,
        codecs=CODECS["720p"],
        frame_rate=25.0,
    )
    availability = Availability(ready(status=status, renditions=(rendition,)))
    assert resolve(availability, asked, is_configured=True) == Stored(f"hls/alice/{VIDEO_ID}/{asked.path}")


@pytest.mark.parametrize("asked", EVERY)
def test_decide_reports_a_video_in_a_storage_that_is_not_configured(asked: RequestedFile) -> None:
    for availability in (Availability(ready()), growing(2, 2, storage_type="local")):
        answer = resolve(availability, asked, is_configured=False)
        assert isinstance(answer, Refused)
        assert (answer.status, answer.reason) == (503, "storage_not_configured")
        assert "local storage" in answer.message


@pytest.mark.parametrize("asked", EVERY)
def test_decide_asks_for_a_retry_when_nothing_is_stored_yet(asked: RequestedFile) -> None:
    for availability in (Availability(video(presentation=None)), growing(1, 0)):
        answer = resolve(availability, asked, is_configured=True)
        assert isinstance(answer, Refused)
        assert (answer.status, answer.reason, answer.retry_seconds) == (404, "not_ready_yet", 2)


def test_decide_says_failed_when_nothing_was_stored_before_the_failure() -> None:
    answer = resolve(growing(0, 0, status="failed"), MASTER, is_configured=True)
    assert isinstance(answer, Refused)
    assert (answer.status, answer.reason, answer.retry_seconds) == (404, "video_failed", None)


@pytest.mark.parametrize("status", ["processing", "failed"])
def test_decide_renders_the_segments_of_every_rendition_when_the_video_is_not_complete(status: str) -> None:
    availability = growing(3, 2, status=status)
    master, playlist = (
        resolve(availability, MASTER, is_configured=True),
        resolve(availability, PLAYLIST, is_configured=True),
    )
    assert isinstance(master, Rendered)
    assert "720p/playlist.m3u8" in master.text
    assert "360p/playlist.m3u8" in master.text
    assert isinstance(playlist, Rendered)
    shown = "#EXTINF:10.000000,\nsegment_001.ts\n#EXTINF:10.000000,\nsegment_002.ts\n"
    assert playlist.text.endswith(shown if status == "processing" else f"{shown}#EXT-X-ENDLIST\n")
    assert "#EXT-X-PLAYLIST-TYPE:EVENT\n" in playlist.text


def test_decide_gives_segments_only_when_they_are_shown() -> None:
    availability = growing(3, 2)
    assert resolve(availability, SEGMENT, is_configured=True) == Stored(
        f"hls/alice/{VIDEO_ID}/720p/segment_002.ts"
    )
    answer = resolve(availability, RequestedFile("720p", "segment_003.ts"), is_configured=True)
    assert isinstance(answer, Refused)
    assert answer.reason == "not_ready_yet"
    for padded in ("segment_0002.ts", "segment_02.ts"):
        assert isinstance(resolve(availability, RequestedFile("720p", padded), is_configured=True), Refused)


def test_decide_refuses_a_rendition_that_the_video_does_not_have() -> None:
    answer = resolve(growing(2, 2), replace(PLAYLIST, rendition="4k"), is_configured=True)
    assert isinstance(answer, Refused)
    assert (answer.status, answer.reason) == (404, "not_found")


def test_shown_so_far_is_empty_when_codecs_are_not_known_yet() -> None:
    assert availability_so_far(video(), PRESENTATION, stored(2, 2), {"720p": "avc1"}).segments == ()
