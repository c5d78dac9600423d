from __future__ import annotations

import json
from datetime import timedelta, timezone
from typing import Any

import pytest

from services.ingest.auth.caller import Caller, bearer_key
from services.ingest.cursors import decode_cursor, encode_cursor
from services.ingest.http.form import clean_filename
from services.ingest.progress.state_event import VideoState
from services.ingest.records import render
from shared.contracts.events import Rendition
from shared.contracts.warnings import VideoWarning
from shared.errors import Forbidden, InvalidRequest
from shared.http.problems import status_of
from shared.playback.urls import PlaybackUrls
from shared.settings import Settings
from tests.unit.video_values import ID, NOON, video

SETTINGS = Settings(
    database_url="postgresql://h/d",
    rabbitmq_url="amqp://h",
    work_dir="/tmp",
    storage_type="s3",
    s3_bucket="media",
    s3_endpoint_url="https://s3.example.org",
    s3_public_url="https://cdn.example.org",
    public_stream_url="https://play.example.org/",
)
URLS = PlaybackUrls.of(SETTINGS)
RENDITION = Rendition(
    name="720p",
    width=1280,
    height=720,
    bandwidth=3_000_000,
    average_bandwidth=2_500_000,
    codecs="avc1.64001f,mp4a.40.2",
    frame_rate=29.97,
)


def test_record_has_every_field_of_the_contract_when_ready() -> None:
    ready = video(
        title="Holidays",
        filename="a.mp4",
        status="ready",
        stage="stored",
        progress=1.0,
        playable=True,
        duration_seconds=12.5,
        width=1920,
        height=1080,
        renditions=(RENDITION,),
        storage_type="s3",
        storage_name="default",
        s3_key=f"hls/alice/{ID}",
        s3_bucket="media",
        s3_public_url="https://cdn.example.org",
        playlist_url=f"https://cdn.example.org/hls/alice/{ID}/master.m3u8",
        thumbnail_url=f"https://cdn.example.org/hls/alice/{ID}/thumbnail.jpg",
        warnings=(VideoWarning(code="audio_left_out", message="no audio"),),
    )
    assert render(ready, URLS).to_json() == {
        "id": str(ID),
        "userId": "alice",
        "title": "Holidays",
        "filename": "a.mp4",
        "visibility": "public",
        "delivery": None,
        "playerUrl": f"https://play.example.org/watch/{ID}",
        "status": "ready",
        "stage": "stored",
        "progress": 1.0,
        "playable": True,
        "durationSeconds": 12.5,
        "width": 1920,
        "height": 1080,
        "renditions": [
            {
                "name": "720p",
                "width": 1280,
                "height": 720,
                "bandwidth": 3_000_000,
                "averageBandwidth": 2_500_000,
                "codecs": "avc1.64001f,mp4a.40.2",
                "frameRate": 29.97,
            }
        ],
        "storage": "default",
        "storageType": "s3",
        "s3Key": f"hls/alice/{ID}",
        "s3Bucket": "media",
        "s3PublicUrl": "https://cdn.example.org",
        "playlistUrl": f"https://cdn.example.org/hls/alice/{ID}/master.m3u8",
        "thumbnailUrl": f"https://cdn.example.org/hls/alice/{ID}/thumbnail.jpg",
        "error": None,
        "warnings": [
            {"code": "audio_left_out", "message": "no audio", "startSeconds": None, "endSeconds": None}
        ],
        "createdAt": "2026-01-02T12:00:00.123456Z",
        "updatedAt": "2026-01-02T12:00:00.123456Z",
    }


@pytest.mark.parametrize(
    ("status", "playable", "expected"),
    [
        ("processing", False, None),
        ("processing", True, f"https://play.example.org/api/stream/{ID}/master.m3u8"),
        ("failed", True, f"https://play.example.org/api/stream/{ID}/master.m3u8"),
        ("failed", False, None),
    ],
)
def test_record_names_the_playlist_of_a_playable_video(
    status: str, playable: bool, expected: str | None
) -> None:
    growing = video(status=status, playable=playable, stage="encode")
    assert render(growing, URLS).playlist_url == expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, f"https://cdn.example.org/hls/alice/{ID}"),
        ({"s3_public_url": "https://new.example.org"}, f"https://new.example.org/hls/alice/{ID}"),
        ({"s3_public_url": ""}, f"https://play.example.org/api/stream/{ID}"),
        ({"s3_bucket": "other"}, f"https://play.example.org/api/stream/{ID}"),
        ({"storage_type": "local"}, f"https://play.example.org/api/stream/{ID}"),
        ({"s3_public_url": "", "public_stream_url": "https://b.org/"}, f"https://b.org/api/stream/{ID}"),
    ],
)
def test_urls_of_a_record_follow_the_current_settings(changed: dict[str, str], expected: str) -> None:
    stored = video(
        status="ready",
        playable=True,
        renditions=(RENDITION,),
        storage_type="s3",
        storage_name="default",
        s3_key=f"hls/alice/{ID}",
        s3_bucket="media",
        s3_public_url="https://cdn.example.org",
        playlist_url="http://localhost:8081/frozen/master.m3u8",
        thumbnail_url="http://localhost:8081/frozen/thumbnail.jpg",
    )
    record = render(stored, PlaybackUrls.of(SETTINGS.model_copy(update=changed)))
    assert record.playlist_url == f"{expected}/master.m3u8"
    assert record.thumbnail_url == f"{expected}/thumbnail.jpg"
    assert record.s3_public_url == "https://cdn.example.org"


def test_cursor_restores_its_position() -> None:
    assert decode_cursor(encode_cursor(NOON, ID)) == (NOON, ID)
    east = NOON.astimezone(timezone(timedelta(hours=2)))
    assert decode_cursor(encode_cursor(east, ID)) == (NOON, ID)


@pytest.mark.parametrize(
    "cursor", ["", "x", "!!!!", "AAAA", encode_cursor(NOON, ID)[:-4], "MjAyNi0wMS0wMiB4"]
)
def test_foreign_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidRequest):
        decode_cursor(cursor)


def test_cursor_is_refused_when_it_has_no_time_zone() -> None:
    with pytest.raises(InvalidRequest):
        decode_cursor(encode_cursor(NOON.replace(tzinfo=None), ID))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("film.mp4", "film.mp4"),
        ("../../etc/passwd", "passwd"),
        ("C:\\videos\\film.mp4", "film.mp4"),
        ("a\x00b\r\n.mp4", "ab.mp4"),
        ("фильм 映画.mp4", "фильм 映画.mp4"),
        ("bad\udcff.mp4", "bad?.mp4"),
        ("x" * 2000, "x" * 1024),
        ("dir/", None),
        (" \t", None),
        (None, None),
    ],
)
def test_filename_is_made_harmless(given: str | None, kept: str | None) -> None:
    assert clean_filename(given) == kept


def test_state_is_written_as_a_server_sent_event() -> None:
    state = VideoState.of(vars(video(progress=0.25, stage="encode", playable=True)))
    head, data, *rest = [*state.to_event().decode().split("\n", 2)[0:2], ""]
    assert head == "id: 4-encode-2500-1"
    assert data == "event: progress"
    assert rest == [""]
    assert state.to_event().endswith(b"\n\n")
    assert json.loads(state.to_event().split(b"data: ")[1]) == {
        "videoId": str(ID),
        "status": "processing",
        "stage": "encode",
        "progress": 0.25,
        "playable": True,
        "error": None,
    }


@pytest.mark.parametrize(
    "change", [{"progress": 0.5}, {"revision": 5}, {"stage": "upload"}, {"playable": True}]
)
def test_state_has_another_id_when_it_changes(change: dict[str, Any]) -> None:
    before, after = VideoState.of(vars(video())), VideoState.of(vars(video(**change)))
    assert before.event_id != after.event_id


@pytest.mark.parametrize("status", ["ready", "failed", "deleted"])
def test_state_is_terminal_when_nothing_follows(status: str) -> None:
    state = VideoState.of(vars(video(status=status)))
    assert (state.is_terminal, state.event_name) == (True, status)


def test_user_key_acts_for_its_user_alone() -> None:
    alice = Caller(ID, "user", "alice")
    assert (alice.acts_for(None), alice.acts_for("alice")) == ("alice", "alice")
    assert (alice.may_see("alice"), alice.may_see("bob")) == (True, False)
    with pytest.raises(Forbidden, match="alice") as problem:
        alice.acts_for("bob")
    assert (status_of(problem.value), problem.value.reason) == (403, "forbidden")


@pytest.mark.parametrize("scope", ["admin", "service"])
def test_other_keys_act_for_anyone(scope: Any) -> None:
    caller = Caller(ID, scope, None)
    assert (caller.acts_for(None), caller.acts_for("bob")) == ("system", "bob")
    assert caller.may_see("bob")


def test_bearer_is_accepted_in_upper_and_lower_case() -> None:
    assert bearer_key("Bearer vod_x-_") == bearer_key("bearer   vod_x-_ ") == "vod_x-_"
