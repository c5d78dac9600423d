"""The contract from outside: upload, record, events, storage, playback, with S3 and local storage."""

from __future__ import annotations

import io
import json
import subprocess
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from tests.e2e.system import needs_volume

if TYPE_CHECKING:
    from pathlib import Path

SEGMENTS = [f"segment_{number:03d}.ts" for number in range(1, 6)]
LADDER = {"720p": (1280, 720), "480p": (854, 480), "360p": (640, 360)}
TREE = {
    "master.m3u8",
    "thumbnail.jpg",
    *(f"{name}/{file}" for name in LADDER for file in ("playlist.m3u8", "iframes.m3u8", *SEGMENTS)),
}
RECORD = {
    "id",
    "userId",
    "title",
    "status",
    "stage",
    "progress",
    "playable",
    "durationSeconds",
    "width",
    "height",
    "renditions",
    "storageType",
    "s3Key",
    "s3Bucket",
    "s3PublicUrl",
    "playlistUrl",
    "thumbnailUrl",
    "error",
    "createdAt",
    "updatedAt",
}


def files_below(directory: Path) -> dict[str, int]:
    return {
        path.relative_to(directory).as_posix(): path.stat().st_size
        for path in directory.rglob("*")
        if path.is_file()
    }


def expect_grid(jpeg: bytes, tmp_path: Path) -> None:
    """The thumbnail is a picture of 2x2 cells in the shape of the video, and its cells differ."""
    path = tmp_path / "thumbnail.jpg"
    path.write_bytes(jpeg)
    raw = subprocess.run(
        [
            "ffmpeg",
            "-v",
            "error",
            "-i",
            str(path),
            "-vf",
            "scale=64:36",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "gray",
            "-",
        ],
        capture_output=True,
        check=True,
    ).stdout
    rows = [raw[start : start + 64] for start in range(0, len(raw), 64)]
    cells = {b"".join(row[x : x + 32] for row in rows[y : y + 18]) for x in (0, 32) for y in (0, 18)}
    assert len(rows) == 36
    assert len(cells) == 4


async def expect_playable(client, record, tmp_path, *, frames: int, ladder=LADDER) -> None:
    played = await client.play(record, tmp_path)
    assert {name: (each.width, each.height) for name, each in played.items()} == ladder
    assert {each.frames for each in played.values()} == {frames}
    assert all(each.even_steps for each in played.values())


async def test_upload_ends_ready_in_s3_with_tree_record_events_and_playback(s3_mode, clip, tmp_path):
    async with s3_mode.client() as client, s3_mode.events() as events:
        record = await client.upload(clip, title="A clip", userId="alice")
        assert record.keys() >= RECORD
        assert (record["status"], record["userId"], record["title"]) == ("processing", "alice", "A clip")
        video_id = str(UUID(record["id"]))
        ready = await client.ready(video_id)

        prefix = f"hls/alice/{video_id}"
        stored = await s3_mode.bucket(prefix)
        assert set(stored) == TREE
        assert (ready["storageType"], ready["s3Key"], ready["s3Bucket"]) == (
            "s3",
            prefix,
            s3_mode.env["S3_BUCKET"],
        )
        assert ready["s3PublicUrl"] == f"{s3_mode.env['S3_ENDPOINT_URL']}/{s3_mode.env['S3_BUCKET']}"
        assert ready["durationSeconds"] == pytest.approx(9, abs=0.05)
        assert (ready["width"], ready["height"], ready["progress"], ready["error"]) == (1280, 720, 1.0, None)
        assert {each["name"]: (each["width"], each["height"]) for each in ready["renditions"]} == LADDER

        await expect_playable(client, ready, tmp_path, frames=225)
        expect_grid(await client.fetch(ready["thumbnailUrl"]), tmp_path)
        kept = [name for name in await s3_mode.work_files(f"chunks/{video_id}") if name.endswith(".ts")]
        assert len(kept) == 15, "segments stay where they were handed over"

        segmented = await events.of(video_id, "video.segmented")
        assert {event["chunk"] for event in segmented} == {0, 1, 2}
        assert sorted(
            f"{segment['rendition']}/segment_{segment['index']:03d}.ts"
            for event in {event["chunk"]: event for event in segmented}.values()
            for segment in event["segments"]
        ) == sorted(name for name in TREE if name.endswith(".ts"))
        [done] = await events.of(video_id, "video.stored", at_least=1)
        assert done["playlistUrl"] == ready["playlistUrl"]
        assert done["bytes"] == sum(stored.values())
        assert await events.of(video_id, "video.failed") == []


async def test_objects_have_the_right_headers_when_they_are_read_from_the_bucket(s3_mode, small_clip):
    async with s3_mode.client() as client, s3_mode.s3() as s3:
        ready = await client.ready((await client.upload(small_clip))["id"])
        found = {}
        for name in ("master.m3u8", "180p/segment_001.ts", "thumbnail.jpg"):
            found[name] = await s3.head_object(Bucket=ready["s3Bucket"], Key=f"{ready['s3Key']}/{name}")
    types = {name: head["ContentType"] for name, head in found.items()}
    assert types == {
        "master.m3u8": "application/vnd.apple.mpegurl",
        "180p/segment_001.ts": "video/mp2t",
        "thumbnail.jpg": "image/jpeg",
    }
    assert all("max-age" in head["CacheControl"] for head in found.values())


async def test_source_smaller_than_every_preset_gets_one_rendition_of_its_own_size(s3_mode, small_clip):
    async with s3_mode.client() as client:
        ready = await client.ready((await client.upload(small_clip))["id"])
    assert [(each["name"], each["width"], each["height"]) for each in ready["renditions"]] == [
        ("180p", 320, 180)
    ]


async def test_local_files_are_removed_after_s3_has_them_when_configured(s3_mode, small_clip):
    s3_mode.up(DELETE_LOCAL_AFTER_S3="true")
    async with s3_mode.client() as client:
        ready = await client.ready((await client.upload(small_clip))["id"])
        await s3_mode.until_gone(ready["id"])
        assert "master.m3u8" in await s3_mode.bucket(ready["s3Key"])
        await client.fetch(ready["playlistUrl"])


@needs_volume
async def test_upload_ends_ready_on_local_disk_when_s3_is_off(system, clip, tmp_path):
    system.up(STORAGE_TYPE="local", DELETE_LOCAL_AFTER_S3="true")
    async with system.client() as client, system.events() as events:
        record = await client.upload(clip, userId="bob")
        ready = await client.ready(record["id"])
        tree = files_below(system.work / "media" / "hls" / "bob" / record["id"])
        assert set(tree) == TREE
        assert (ready["storageType"], ready["s3Bucket"], ready["s3PublicUrl"]) == ("local", None, None)
        assert ready["s3Key"] == f"hls/bob/{record['id']}"
        await expect_playable(client, ready, tmp_path, frames=225)
        expect_grid(await client.fetch(ready["thumbnailUrl"]), tmp_path)
        [done] = await events.of(record["id"], "video.stored", at_least=1)
        assert done["bytes"] == sum(tree.values())
        await client.call("DELETE", f"/api/videos/{record['id']}", 204)
        await system.until_gone(record["id"])


async def test_players_may_begin_while_the_rest_is_still_encoded(s3_mode, long_clip):
    async with s3_mode.client() as client:
        video_id = (await client.upload(long_clip))["id"]
        playable = await client.until(video_id, lambda record: record["playable"])
        assert playable["status"] == "processing"
        assert playable["playlistUrl"]
        base = f"{s3_mode.env['STREAMER_URL']}/api/stream/{video_id}"
        assert b"#EXT-X-STREAM-INF" in await client.fetch(f"{base}/master.m3u8")
        growing = (await client.fetch(f"{base}/480p/playlist.m3u8")).decode()
        assert "#EXT-X-PLAYLIST-TYPE:EVENT" in growing
        assert "#EXT-X-ENDLIST" not in growing
        assert len(await client.fetch(f"{base}/480p/segment_001.ts")) % 188 == 0
        await client.ready(video_id)
        done = (await client.fetch(f"{base}/480p/playlist.m3u8")).decode()
    assert "#EXT-X-PLAYLIST-TYPE:VOD" in done
    start = "#EXT-X-START:TIME-OFFSET=0.001,PRECISE=YES\n"
    assert start in growing
    assert done.startswith(growing.split("#EXTINF")[0].replace("EVENT", "VOD").replace(start, ""))


async def test_qualities_of_the_upload_win_over_the_users_preferences(s3_mode, clip):
    async with s3_mode.client() as client:
        await client.call("PUT", "/api/users/carol/preferences", json={"qualities": ["360p"]})
        preferred = await client.upload(clip, userId="carol")
        chosen = await client.upload(clip, userId="carol", qualities="720p,480p")
        names = [
            [each["name"] for each in (await client.ready(record["id"]))["renditions"]]
            for record in (preferred, chosen)
        ]
        refused = await client.upload(clip, 400, qualities="4k")
    assert names == [["360p"], ["720p", "480p"]]
    assert refused["reason"] == "unknown_quality"


async def test_changed_presets_take_effect_on_the_next_video(s3_mode, clip):
    async with s3_mode.client() as client:
        before = await client.call("GET", "/api/presets")
        body = before["presets"] if isinstance(before, dict) else before
        tiny = [{"name": "tiny", "shortSide": 144, "videoBitrate": 200_000, "audioBitrate": 64_000}]
        wrap = (lambda items: {"presets": items}) if isinstance(before, dict) else (lambda items: items)
        await client.call("PUT", "/api/presets", json=wrap(tiny))
        try:
            ready = await client.ready((await client.upload(clip))["id"])
        finally:
            await client.call("PUT", "/api/presets", json=wrap(body))
    assert [(each["name"], each["width"], each["height"]) for each in ready["renditions"]] == [
        ("tiny", 256, 144)
    ]
    assert f"{ready['s3Key']}/tiny/segment_001.ts".removeprefix(ready["s3Key"] + "/") in await s3_mode.bucket(
        ready["s3Key"]
    )


@pytest.fixture
async def user_clients(s3_mode):
    """Two users, each with a key."""
    async with s3_mode.client() as admin:
        keys = {
            name: (
                await admin.call(
                    "POST", "/api/keys", 201, json={"name": name, "scope": "user", "userId": name}
                )
            )
            for name in ("dave", "erin")
        }
    async with s3_mode.client(keys["dave"]["key"]) as dave, s3_mode.client(keys["erin"]["key"]) as erin:
        yield dave, erin


async def test_users_do_not_see_each_others_videos(user_clients, small_clip):
    dave, erin = user_clients
    video_id = (await dave.upload(small_clip))["id"]
    assert (await dave.record(video_id))["userId"] == "dave"
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/retry"), ("GET", "/events")):
        refused = await erin.call(method, f"/api/videos/{video_id}{path}", 404)
        assert refused["reason"] == "not_found"
    assert video_id not in json.dumps(await erin.call("GET", "/api/videos"))
    assert video_id in json.dumps(await dave.call("GET", "/api/videos"))
    assert (await erin.upload(small_clip, 403, userId="dave"))["reason"] == "forbidden"


async def test_delete_leaves_no_object_and_no_file(s3_mode, small_clip):
    async with s3_mode.client() as client:
        ready = await client.ready((await client.upload(small_clip))["id"])
        await client.call("DELETE", f"/api/videos/{ready['id']}", 204)
        assert (await client.call("GET", f"/api/videos/{ready['id']}", 404))["reason"] == "not_found"
        await s3_mode.until_gone(ready["id"])
        assert await s3_mode.bucket(ready["s3Key"]) == {}


async def test_delete_stops_the_work_when_a_video_is_being_encoded(s3_mode, long_clip):
    async with s3_mode.client() as client:
        video_id = (await client.upload(long_clip))["id"]
        await client.until(video_id, lambda record: record["playable"])
        await client.call("DELETE", f"/api/videos/{video_id}", 204)
        await s3_mode.until_gone(video_id)
        assert await s3_mode.bucket(f"hls/system/{video_id}") == {}


async def test_state_changes_are_streamed_to_every_watcher(s3_mode, clip):
    async with s3_mode.client() as client:
        video_id = (await client.upload(clip))["id"]
        headers = {"Authorization": f"Bearer {client.key}"}
        url = f"{s3_mode.env['INGEST_URL']}/api/videos/{video_id}/events"
        async with client.session.get(url, headers=headers) as answer:
            assert answer.content_type == "text/event-stream"
            text = (await answer.read()).decode()
    events = [
        dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        for block in text.split("\n\n")
    ]
    events = [event for event in events if "data" in event]
    assert events[-1]["event"] == "ready"
    progress = [json.loads(event["data"])["progress"] for event in events]
    assert progress == sorted(progress)
    assert progress[-1] == 1.0
    assert len({event["id"] for event in events}) == len(events)


async def test_every_service_reports_health_readiness_and_metrics(s3_mode):
    state = json.loads((s3_mode.directory / "state.json").read_text())
    async with s3_mode.client() as client:
        for part in ("ingest", "transcoder-1", "uploader", "streamer"):
            base = f"http://127.0.0.1:{state['ports'][part]}"
            await client.fetch(f"{base}/healthz")
            assert json.loads(await client.fetch(f"{base}/readyz"))["status"] == "ready"
            assert b"vod_http_requests_total" in await client.fetch(f"{base}/metrics")


def test_logs_are_json_with_video_and_request_ids(s3_mode):
    lines = [json.loads(line) for line in io.StringIO(s3_mode.log("uploader")) if line.startswith("{")]
    stored = [line for line in lines if line["event"] == "video_stored"]
    assert stored
    assert all(line["video_id"] and line["request_id"] for line in stored if "request_id" in line)
    assert not [line for line in lines if line["level"] == "critical"]
