"""The API of ingest, from the request to the rows and files it leaves, without servers."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.ingest.http.events import KEEP_ALIVE_SECONDS
from services.ingest.http.resources import FEED
from services.ingest.uploads.pace import UploadPace
from shared.errors import CorruptSource, EncodeFailed
from shared.workspace.volume import STALE_SECONDS, remove_stale
from tests.unit.ingest_api import assert_problem, serving

BOUNDARY = "frontier"
MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
UPLOAD = "/api/videos/upload"


@pytest.fixture
async def api(postgres, work_dir):
    async with serving(postgres, work_dir) as opened:
        yield opened


def part(name, content=b"x", filename=None, extra=""):
    named = f'; filename="{filename}"' if filename else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n{extra}\r\n'
    return head.encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()
FILE = part("file", b"film", "film.mp4")


async def send(api, body, **options):
    return await api.call("POST", UPLOAD, data=body, headers=MULTIPART, **options)


# Uploads


async def test_accepted_upload_is_a_file_a_record_and_an_event(api):
    content = bytes(range(256)) * 20
    status, record = await api.upload(
        content, title=" Holiday ", qualities="720p, 480p,720p", delivery="signed"
    )
    assert (status, record["status"], record["stage"], record["progress"]) == (202, "processing", "plan", 0.0)
    assert (record["userId"], record["title"], record["filename"]) == ("alice", "Holiday", "film.mp4")
    original = api.work.original(UUID(record["id"]))
    assert original.read_bytes() == content
    assert api.files() == [f"originals/{record['id']}/source"]
    [(key, event)] = api.postgres.sent
    assert (key, event["source"]["uri"], event["qualities"]) == (
        "video.uploaded", original.as_uri(), ["720p", "480p"],
    )  # fmt: skip
    [row] = api.postgres.rows("videos")
    assert [rung["name"] for rung in row["ladder"]] == ["1080p", "720p", "480p", "360p"]


@pytest.mark.parametrize(
    ("as_", "fields", "owner"),
    [
        ("service", {}, "system"),
        ("service", {"userId": "carol"}, "carol"),
        ("alice", {"userId": "alice"}, "alice"),
    ],
)
async def test_upload_belongs_to_the_named_user(api, as_, fields, owner):
    status, record = await api.upload(as_=as_, **fields)
    assert (status, record["userId"]) == (202, owner)


async def test_user_cannot_upload_for_another_user(api):
    assert_problem(await api.upload(userId="bob"), 403, "forbidden")
    api.nothing_is_left()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (END, "invalid_request"),
        (b"", "invalid_request"),
        (b"no form at all", "invalid_request"),
        (part("file", b"", "empty.mp4") + END, "empty_file"),
        (FILE[:-10], "invalid_request"),
        (FILE + part("title") + END, "invalid_request"),
        (FILE + FILE + END, "invalid_request"),
        (part("title") + part("title") + FILE + END, "invalid_request"),
        (part("title", b"x" * 5000) + FILE + END, "invalid_request"),
        (part("title", b"\xff") + FILE + END, "invalid_request"),
        (part("title", b"a\x00b") + FILE + END, "invalid_request"),
        (part("userId", b"../x") + FILE + END, "invalid_request"),
        (part("qualities", b"725p") + FILE + END, "unknown_quality"),
        (b"".join(part(f"field{n}") for n in range(30)) + FILE + END, "invalid_request"),
        (part("visibility", b"secret") + FILE + END, "invalid_request"),
    ],
)
async def test_wrong_form_is_refused_and_leaves_nothing(api, body, reason):
    assert_problem(await send(api, body), 400, reason)
    api.nothing_is_left()


@pytest.mark.parametrize("extra", ["Content-Encoding: gzip\r\n", "Content-Transfer-Encoding: base64\r\n"])
async def test_encoded_part_is_refused(api, extra):
    assert_problem(await send(api, part("file", b"x", "a.mp4", extra) + END), 415, "unsupported_encoding")
    api.nothing_is_left()


async def test_body_that_is_no_form_is_refused(api):
    assert_problem(await api.call("POST", UPLOAD, json={}), 400, "invalid_request")


async def test_file_that_is_too_large_is_refused_by_its_announced_and_by_its_real_size(postgres, work_dir):
    async with serving(postgres, work_dir, max_upload_bytes=3000) as api:
        assert_problem(await api.upload(bytes(200_000)), 413, "upload_too_large")
        assert_problem(await api.upload(bytes(3001)), 413, "upload_too_large")
        api.nothing_is_left()
        assert (await api.upload(bytes(3000)))[0] == 202


@asynccontextmanager
async def raw_upload(api, *headers, body=b""):
    """Send a head and perhaps a part of the body; yield the reader of the answer, and the writer."""
    reader, writer = await asyncio.open_connection(api.client.server.host, api.client.server.port)
    lines = ["Host: x", *(f"{name}: {value}" for name, value in (api.headers("alice") | MULTIPART).items())]
    writer.write("\r\n".join([f"POST {UPLOAD} HTTP/1.1", *lines, *headers, "", ""]).encode() + body)
    await writer.drain()
    yield reader, writer
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def begin_upload(api):
    """Send the beginning of an upload that is longer."""
    return raw_upload(api, "Content-Length: 1000000", body=part("file", bytes(300_000), "a.mp4"))


async def status_of(reader):
    async with asyncio.timeout(10):
        return int((await reader.readline()).split()[1])


async def test_body_is_requested_after_the_head_was_checked(api):
    length = f"Content-Length: {len(FILE + END)}"
    async with raw_upload(api, length, "Expect: 100-continue") as (reader, writer):
        assert await status_of(reader) == 100
        await reader.readline()
        writer.write(FILE + END)
        assert await status_of(reader) == 202


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (("Content-Length: 100000000000", "Expect: 100-continue"), 413),
        (("Content-Length: 100", "Expect: something-else"), 417),
    ],
)
async def test_upload_is_refused_before_its_body_is_sent(api, headers, status):
    async with raw_upload(api, *headers) as (reader, _):
        assert await status_of(reader) == status
    api.nothing_is_left()


async def test_upload_that_sends_nothing_is_aborted(postgres, work_dir):
    async with serving(postgres, work_dir, pace=UploadPace(stall_seconds=0.05)) as api:
        async with begin_upload(api) as (reader, _):
            assert await status_of(reader) == 408
        api.nothing_is_left()


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def test_upload_leaves_nothing_when_the_client_disconnects(api):
    async with begin_upload(api):
        await until(api.files)
    await until(lambda: not api.files())
    api.nothing_is_left()


async def test_uploads_end_when_the_service_stops(api):
    async with begin_upload(api) as (reader, _):
        await until(api.files)
        await api.client.app.shutdown()
        assert await status_of(reader) == 503
    api.nothing_is_left()


async def test_upload_is_refused_when_its_user_has_too_many_videos_in_progress(postgres, work_dir):
    async with serving(postgres, work_dir, max_processing_per_user=1) as api:
        assert (await api.upload())[0] == 202
        assert_problem(await api.upload(), 429, "too_many_processing")
        assert (await api.upload(as_="bob"))[0] == 202


async def test_upload_is_refused_when_all_slots_are_taken(postgres, work_dir):
    async with serving(postgres, work_dir, max_uploads_at_once=1) as api, begin_upload(api):
        await until(api.files)
        assert_problem(await api.upload(as_="bob"), 503, "too_many_uploads")


async def test_upload_that_could_not_be_committed_leaves_nothing(api, postgres):
    postgres.fail("videos.insert", ConnectionResetError("gone"))
    assert_problem(await api.upload(), 503, "database_unavailable")
    api.nothing_is_left()


async def test_complete_upload_waits_for_postgres(postgres, work_dir):
    pace = UploadPace(patience_seconds=60.0, pause_seconds=0.0)
    async with serving(postgres, work_dir, pace=pace) as api:
        postgres.fail("videos.insert", ConnectionResetError("gone"), TimeoutError())
        assert (await api.upload())[0] == 202
        assert len(api.files()) == len(postgres.sent) == 1


async def test_upload_is_accepted_once_when_the_answer_to_its_commit_is_lost(postgres, work_dir):
    pace = UploadPace(patience_seconds=60.0, pause_seconds=0.0)
    async with serving(postgres, work_dir, pace=pace) as api:
        postgres.unconfirmed = "videos.insert"
        status, record = await api.upload()
        assert (status, api.files()) == (202, [f"originals/{record['id']}/source"])
        assert len(postgres.rows("videos")) == len(postgres.sent) == 1


async def test_file_stays_when_the_outcome_of_the_commit_is_unknown(api, postgres):
    postgres.unconfirmed = "videos.insert"
    answer = await api.upload()
    assert_problem(answer, 503, "upload_outcome_unknown")
    [row] = postgres.rows("videos")
    assert api.files() == [f"originals/{row['video_id']}/source"]
    assert answer[1]["videoId"] == str(row["video_id"])
    status, record = await api.call("GET", answer[1]["videoUrl"])
    assert (status, record["id"]) == (200, answer[1]["videoId"]), "the client finds it without another upload"


async def test_private_upload_is_refused_where_anyone_can_read_the_bucket(postgres, work_dir):
    s3 = {
        "storage_type": "s3",
        "s3_bucket": "b",
        "s3_endpoint_url": "http://s3",
        "s3_public_url": "https://cdn",
    }
    async with serving(postgres, work_dir, **s3) as api:
        assert_problem(await api.upload(visibility="private"), 400, "private_not_possible")
        api.nothing_is_left()


def test_uploads_of_dead_processes_are_removed_after_a_while(tmp_path):
    young, old = tmp_path / "young.part", tmp_path / "old.part"
    for path in (young, old):
        path.write_bytes(b"x")
    now = old.stat().st_mtime
    assert remove_stale(tmp_path, now + STALE_SECONDS - 1) == 0
    os.utime(young, (now + 10, now + 10))
    assert remove_stale(tmp_path, now + STALE_SECONDS + 1) == 1
    assert (young.exists(), old.exists()) == (True, False)


# Reading, deleting, retrying


async def test_videos_are_listed_newest_first_in_pages(api, new_video, postgres):
    made = []
    for _ in range(5):
        made.append(str((await new_video().accepted()).video_id))
        postgres.pass_time(1)
    await new_video(user_id="bob").accepted()
    _, first = await api.call("GET", "/api/videos?limit=3")
    _, second = await api.call("GET", f"/api/videos?limit=3&cursor={first['nextCursor']}")
    assert [video["id"] for page in (first, second) for video in page["videos"]] == made[::-1]
    assert second["nextCursor"] is None


async def test_videos_are_listed_by_status_and_user(api, new_video):
    failed = await new_video().failed()
    await new_video().accepted()
    await new_video(user_id="bob").accepted()
    _, page = await api.call("GET", "/api/videos?status=failed")
    assert [video["id"] for video in page["videos"]] == [str(failed.video_id)]
    _, page = await api.call("GET", "/api/videos?userId=bob", as_="admin")
    assert [video["userId"] for video in page["videos"]] == ["bob"]
    assert len((await api.call("GET", "/api/videos", as_="admin"))[1]["videos"]) == 3
    assert_problem(await api.call("GET", "/api/videos?userId=bob"), 403, "forbidden")


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "cursor=x", "status=deleted", "what=1", "limit=1&limit=2"]
)
async def test_wrong_query_is_refused(api, query):
    assert_problem(await api.call("GET", f"/api/videos?{query}"), 400, "invalid_request")


async def test_ready_video_is_shown_with_its_urls(api, new_video):
    video = await new_video().ready()
    _, record = await api.call("GET", f"/api/videos/{video.video_id}")
    assert (record["status"], record["stage"], record["progress"], record["playable"]) == (
        "ready", "stored", 1.0, True,
    )  # fmt: skip
    base = f"http://localhost:8081/api/stream/{video.video_id}"
    assert (record["playlistUrl"], record["thumbnailUrl"]) == (f"{base}/master.m3u8", f"{base}/thumbnail.jpg")
    assert [rendition["name"] for rendition in record["renditions"]] == ["720p", "360p"]


@pytest.mark.parametrize("path", ["", "/source", "/events"])
async def test_video_of_another_user_is_unknown(api, new_video, path):
    video = await new_video(user_id="bob").accepted()
    assert_problem(await api.call("GET", f"/api/videos/{video.video_id}{path}"), 404, "not_found")


@pytest.mark.parametrize(
    "name",
    ["x", str(uuid4()).replace("-", ""), str(uuid4())],
    ids=["malformed", "not canonical", "unknown"],
)
async def test_unknown_or_malformed_id_is_not_found(api, name):
    assert_problem(await api.call("GET", f"/api/videos/{name}"), 404, "not_found")


async def test_source_report_exists_once_the_video_is_planned(api, new_video, postgres):
    video = await new_video().accepted()
    assert_problem(await api.call("GET", f"/api/videos/{video.video_id}/source"), 404, "no_source_report")


async def test_deleted_video_is_hidden_and_its_removal_requested(api, new_video):
    video = await new_video().planned()
    path = f"/api/videos/{video.video_id}"
    async with video.outbox.transaction() as connection:
        await video.outbox.add(connection, video.encode(0))
    assert (await api.call("DELETE", path))[0] == 204
    assert api.postgres.sent == [("video.delete", {"videoId": str(video.video_id)})]
    assert_problem(await api.call("GET", path), 404, "not_found")
    assert_problem(await api.call("DELETE", path), 404, "not_found")


async def test_failed_video_is_retried_where_it_stopped(api, new_video):
    video = await new_video().encoded(0)
    await video.fail(EncodeFailed("broken"))
    status, record = await api.call("POST", f"/api/videos/{video.video_id}/retry")
    assert (status, record["status"], record["stage"], record["error"]) == (202, "processing", "encode", None)
    assert api.postgres.sent[-1] == ("video.resume", {"videoId": str(video.video_id)})
    assert_problem(await api.call("POST", f"/api/videos/{video.video_id}/retry"), 409, "not_failed")


@pytest.mark.parametrize(("was_ready", "status"), [(False, 409), (True, 202)])
async def test_video_without_its_original_is_retried_only_if_it_was_ready(
    api, new_video, postgres, was_ready, status
):
    video_id = uuid4()
    video = new_video(video_id=video_id, source_uri=api.work.original(video_id).as_uri())
    await (video.ready() if was_ready else video.planned())
    [row] = postgres.rows("videos", video_id=video_id)
    row |= {"status": "processing", "original_removed_at": postgres.tables.now}
    await video.fail(EncodeFailed("broken"))
    answer = await api.call("POST", f"/api/videos/{video_id}/retry")
    assert answer[0] == status
    if not was_ready:
        assert_problem(answer, 409, "original_removed")
    assert (await video.record()).status == ("processing" if was_ready else "failed")


async def test_retry_is_refused_when_its_user_has_too_many_videos_in_progress(postgres, work_dir, new_video):
    async with serving(postgres, work_dir, max_processing_per_user=1) as api:
        video = await new_video().failed()
        await new_video().accepted()
        assert_problem(
            await api.call("POST", f"/api/videos/{video.video_id}/retry"), 429, "too_many_processing"
        )
        assert (await video.record()).status == "failed", "the transaction is rolled back"


async def test_retry_is_not_refused_for_bytes_that_it_does_not_add(postgres, work_dir, new_video):
    async with serving(postgres, work_dir, max_bytes_per_user=100) as api:
        video = await new_video().failed()
        [row] = postgres.rows("videos", video_id=video.video_id)
        row["original_bytes"] = 101
        assert (await api.call("POST", f"/api/videos/{video.video_id}/retry"))[0] == 202
        assert (await video.record()).status == "processing"
        assert_problem(await api.upload(b"film"), 403, "quota_exceeded")


async def test_videos_that_failed_for_one_reason_are_retried_together(api, new_video):
    videos = [await new_video().failed(EncodeFailed("x")) for _ in range(3)]
    other = await new_video().failed(CorruptSource("x"))
    path = "/api/videos/retry?reason=encode_failed"
    assert await api.call("POST", path, as_="service") == (202, {"retried": 3})
    assert [(await video.record()).status for video in (*videos, other)] == ["processing"] * 3 + ["failed"]
    assert_problem(await api.call("POST", path), 403, "forbidden")


# Events


async def read_event(response):
    event = {}
    async with asyncio.timeout(10):
        while line := (await response.content.readline()).decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if not name and "data" in event:
                return event | {"data": json.loads(event["data"])}
            event[name] = value
    return {}


def watch(api, video, **headers):
    return api.client.get(f"/api/videos/{video.video_id}/events", headers=api.headers("alice") | headers)


async def test_events_show_each_state_up_to_the_end(api, new_video):
    video = await new_video().accepted()
    async with watch(api, video) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        first = await read_event(response)
        assert (first["event"], first["data"]["stage"]) == ("progress", "plan")
        await video.fail(EncodeFailed("broken"))
        await api.ticks.tick()
        last = await read_event(response)
        assert (last["event"], last["data"]["error"]["reason"]) == ("failed", "encode_failed")
        assert await response.content.read() == b""
    async with watch(api, video, **{"Last-Event-ID": last["id"]}) as response:
        assert response.status == 204
    async with watch(api, video, **{"Last-Event-ID": first["id"]}) as response:
        assert (await read_event(response))["event"] == "failed"


async def test_events_cost_one_query_however_many_watch(api, new_video, postgres):
    videos = [await new_video().accepted() for _ in range(3)]
    streams = [await watch(api, video) for video in videos * 20]
    for stream in streams:
        assert (await read_event(stream))["event"] == "progress"
    asked = postgres.calls["ingest.states"]
    for times in range(1, 4):
        await api.ticks.tick()
        assert postgres.calls["ingest.states"] == asked + times
    for video in videos:
        await video.fail(EncodeFailed("broken"))
    await api.ticks.tick()
    for stream in streams:
        assert (await read_event(stream))["event"] == "failed"
        stream.close()
    asked = postgres.calls["ingest.states"]
    await until(lambda: not api.client.app[FEED]._watchers)
    await api.ticks.tick()
    assert postgres.calls["ingest.states"] == asked, "without watchers there are no queries"


async def test_events_continue_after_an_outage_of_postgres(api, new_video, postgres):
    video = await new_video().accepted()
    async with watch(api, video) as response:
        await read_event(response)
        postgres.is_away = True
        await api.ticks.tick()
        postgres.is_away = False
        await video.fail(EncodeFailed("broken"))
        await api.ticks.tick()
        assert (await read_event(response))["event"] == "failed"


async def test_events_end_when_their_key_is_revoked(api, new_video, postgres):
    video = await new_video().accepted()
    async with watch(api, video) as response:
        await read_event(response)
        for row in postgres.rows("api_keys", name="alice"):
            row["revoked_at"] = postgres.tables.now
        await api.ticks.tick()
        assert await asyncio.wait_for(response.content.read(), 10) == b""


async def test_events_end_when_the_service_stops(api, new_video):
    async with watch(api, await new_video().accepted()) as response:
        await read_event(response)
        api.client.app[FEED].close()
        assert await asyncio.wait_for(response.content.read(), 10) == b""
    assert KEEP_ALIVE_SECONDS < 30, "proxies close idle connections"


# Keys


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer nobodys"}, {"Authorization": "Basic eDp5"}])
async def test_every_operation_is_refused_without_a_key(api, header):
    assert_problem(await api.call("GET", "/api/videos", as_=None, headers=header), 401, "unauthorized")


async def test_new_key_works_until_it_expires_or_is_revoked(api, postgres):
    until = (postgres.tables.now + timedelta(hours=1)).isoformat()
    new = {"name": "app", "scope": "user", "userId": "carol", "expiresAt": until}
    status, created = await api.call("POST", "/api/keys", as_="admin", json=new)
    assert (status, created["userId"]) == (201, "carol")
    api.keys["carol"] = created["key"]
    assert (await api.call("GET", "/api/videos", as_="carol"))[0] == 200
    _, listed = await api.call("GET", "/api/keys", as_="admin")
    [shown] = [key for key in listed["keys"] if key["id"] == created["id"]]
    assert "key" not in shown
    assert shown["lastUsedAt"]
    postgres.pass_time(3601)
    assert_problem(await api.call("GET", "/api/videos", as_="carol"), 401, "unauthorized")
    path = f"/api/keys/{created['id']}"
    assert (await api.call("DELETE", path, as_="admin"))[0] == 204
    assert_problem(await api.call("DELETE", path, as_="admin"), 404, "not_found")


@pytest.mark.parametrize(
    "new",
    [
        {"name": "app", "scope": "user"},
        {"name": "app", "scope": "admin", "userId": "x"},
        {"name": "", "scope": "admin"},
        {"name": "x", "scope": "admin", "expiresAt": "9999-12-31T23:59:59Z"},
        "x",
    ],
)
async def test_key_that_makes_no_sense_is_refused(api, new):
    assert_problem(await api.call("POST", "/api/keys", as_="admin", json=new), 400, "invalid_request")


# Presets and preferences


async def test_presets_are_replaced_as_a_whole(api):
    new = [{"name": "hd", "shortSide": 720, "videoBitrate": 2_000_000}]
    assert (await api.call("PUT", "/api/presets", as_="admin", json=new))[0] == 200
    _, shown = await api.call("GET", "/api/presets")
    assert [(preset["name"], preset["profile"]) for preset in shown] == [("hd", "balanced")]
    assert_problem(await api.call("PUT", "/api/presets", json=new), 403, "forbidden")
    assert_problem(await api.call("PUT", "/api/presets", as_="admin", json=new * 2), 400, "invalid_request")


async def test_users_have_default_qualities(api):
    path = "/api/users/alice/preferences"
    assert await api.call("GET", path) == (200, {"qualities": []})
    assert (await api.call("PUT", path, json={"qualities": ["720p", "360p"]}))[0] == 200
    assert await api.call("GET", path) == (200, {"qualities": ["720p", "360p"]})
    assert_problem(await api.call("PUT", path, json={"qualities": ["8k"]}), 400, "unknown_quality")
    assert_problem(await api.call("GET", "/api/users/bob/preferences"), 403, "forbidden")
    assert_problem(await api.call("GET", "/api/users/b%20b/preferences", as_="admin"), 404, "not_found")


# Who may watch


async def test_title_visibility_and_delivery_are_changed_one_by_one(api, new_video):
    path = f"/api/videos/{(await new_video(given={'delivery': 'signed'}).accepted()).video_id}"
    _, record = await api.call("PATCH", path, json={"visibility": "private", "title": "New"})
    assert (record["visibility"], record["delivery"], record["title"]) == ("private", "signed", "New")
    _, record = await api.call("PATCH", path, json={"delivery": None})
    assert (record["visibility"], record["delivery"], record["title"]) == ("private", None, "New")
    assert_problem(await api.call("PATCH", path, json={"owner": "bob"}), 400, "invalid_request")
    assert_problem(await api.call("PATCH", path, as_="bob", json={}), 404, "not_found")


async def test_token_has_the_requested_claims_and_is_revoked_with_all_others(api, new_video, postgres):
    path = f"/api/videos/{(await new_video().ready()).video_id}"
    wanted = {"ttlSeconds": 90, "maxHeight": 480, "origins": ["https://Site.example"], "ip": ["203.0.113.7"]}
    status, made = await api.call("POST", f"{path}/playback-tokens", json=wanted)
    [own] = postgres.rows("playback_keys")
    claims = jwt.decode(made["token"], own["material"], algorithms=["HS256"], options={"verify_aud": False})
    assert (status, claims["gen"]) == (201, 0)
    assert datetime.fromisoformat(made["expiresAt"]) <= datetime.now(UTC) + timedelta(seconds=90)
    assert made["playlistUrl"].endswith(f"/t/{made['token']}/master.m3u8")
    assert await api.call("POST", f"{path}/revoke-playback-tokens") == (200, {"generation": 1})
    _, second = await api.call("POST", f"{path}/playback-tokens")
    claims = jwt.decode(second["token"], own["material"], algorithms=["HS256"], options={"verify_aud": False})
    assert claims["gen"] == 1


@pytest.mark.parametrize("body", [{"ttlSeconds": 0}, {"ip": ["x"]}, {"origins": ["site"]}, [], "x"])
async def test_token_that_makes_no_sense_is_refused(api, new_video, body):
    path = f"/api/videos/{(await new_video().ready()).video_id}/playback-tokens"
    assert_problem(await api.call("POST", path, json=body), 400, "invalid_request")


async def test_public_keys_of_platforms_are_registered_listed_and_removed(api):
    public = Ed25519PrivateKey.generate().public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    new = {"kid": "cms1", "alg": "EdDSA", "publicKey": pem}
    status, created = await api.call("POST", "/api/playback-keys", as_="admin", json=new)
    assert (status, created["kid"]) == (201, "cms1")
    assert_problem(await api.call("POST", "/api/playback-keys", as_="admin", json=new), 409, "kid_taken")
    _, listed = await api.call("GET", "/api/playback-keys", as_="admin")
    assert listed["keys"] == [created]
    assert (await api.call("DELETE", "/api/playback-keys/cms1", as_="admin"))[0] == 204
    assert_problem(await api.call("DELETE", "/api/playback-keys/cms1", as_="admin"), 404, "not_found")
    wrong = new | {"publicKey": "no key"}
    assert_problem(
        await api.call("POST", "/api/playback-keys", as_="admin", json=wrong), 400, "invalid_request"
    )


# The rest


async def test_local_storage_is_examined(api, work_dir):
    status, report = await api.call("POST", "/api/storage/doctor", as_="admin", json={})
    assert (status, report["healthy"]) == (200, True)
    assert [finding["check"] for finding in report["findings"]] == ["put", "list", "delete", "identity"]
    assert_problem(await api.call("POST", "/api/storage/doctor", json={}), 403, "forbidden")


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("/docs", 200, "text/html"),
        ("/docs/swagger-ui-bundle.js", 200, "javascript"),  # text/ or application/: the machine decides
        ("/docs/swagger-ui.css", 200, "text/css"),
        ("/docs/secrets", 404, "application/problem+json"),
        ("/openapi.json", 200, "application/json"),
        ("/healthz", 200, "application/json"),
        ("/metrics", 200, "text/plain"),
    ],
)
async def test_documentation_and_probes_need_no_key(api, path, status, kind):
    async with api.client.get(path) as response:
        assert response.status == status
        assert response.content_type.endswith(kind)
    async with api.client.get("/", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (302, "/docs")
