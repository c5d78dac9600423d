"""compose.yaml on a fresh machine, and after failures of its parts."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import yaml

from tests.deploy.compose_project import API_KEY, PAGE, forget_image, project_of, settings
from tests.deploy.engine import EngineError
from tests.deploy.video_lifecycle import READY_SECONDS, play, walk
from tests.e2e.system import Client, make_clip
from tests.e2e.use_it import make_holiday, use_it
from tests.newcomer import commands, publish, row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.deploy.compose_project import Project
    from tests.deploy.engine import Engine

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

ENTRANCE = "http://localhost:8080"
SMALL = {"360p": (640, 360)}
OURS = ("ingest", "transcoder", "uploader", "streamer", "edge")
API_PAGE = "services/ingest/http/documentation.html"
LOGGED_SECONDS = 15.0


@pytest.fixture(scope="module")
def project(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The project as a newcomer starts it, with the image still to be built."""
    forget_image(engine)
    folder, sandbox = tmp_path_factory.mktemp("compose"), settings("require FFmpeg's sandbox")
    with project_of(engine, folder, entrance=ENTRANCE, env=sandbox) as running:
        yield running


def test_both_pages_start_it_in_the_same_way():
    assert commands(PAGE, "start") == commands("README.md", "docker")


def test_newcomer_uploads_follows_plays_and_deletes_a_video(project):
    make_holiday(project.newcomer)
    use_it(project.newcomer)


async def test_a_video_goes_all_the_way_through_the_edge(project, clip, tmp_path):
    ready = await walk(project.addresses, clip, tmp_path)
    assert ready["playlistUrl"] == f"{ENTRANCE}/api/stream/{ready['id']}/master.m3u8"
    assert ready["storageType"] == "s3"


async def test_a_segment_is_fetched_once_for_all_viewers(project, clip, tmp_path):
    async with aiohttp.ClientSession() as session:
        client, ready = await upload(project, session, clip)
        for _ in range(2):
            await play(client, ready, tmp_path, SMALL)
    deadline = time.monotonic() + LOGGED_SECONDS
    while "HIT" not in (caches := logged_caches(project, ready["id"])) and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
    assert caches.count("HIT") >= len(caches) / 2 > 0


def logged_caches(project: Project, video: str) -> list[str]:
    """Return what the edge has logged of its cache for each segment of a video; it writes once a second."""
    text = project("logs", "--no-log-prefix", "edge")
    lines = [json.loads(line) for line in text.splitlines() if line[:1] == "{"]
    return [line["cache"] for line in lines if line["path"].endswith(".ts") and video in line["path"]]


async def test_api_and_pages_are_published_and_metrics_are_not(project):
    async with aiohttp.ClientSession() as session:
        for path, status in {
            "/openapi.json": 200,
            "/docs": 200,
            "/docs/swagger-ui.css": 200,
            "/api/videos": 401,
            "/metrics": 404,
            "/statusz": 404,
        }.items():
            async with session.get(ENTRANCE + path) as answer:
                assert (path, answer.status) == (path, status)
        async with session.get(f"{ENTRANCE}/openapi.json") as answer:
            assert "/api/videos/upload" in (await answer.json())["paths"]


def test_starting_again_makes_no_second_key(project):
    project.up()
    assert "There is an API key already" in project("logs", "setup")


def test_default_secrets_are_refused_where_others_can_reach_them(project):
    with pytest.raises(EngineError, match=r"put POSTGRES_PASSWORD, RABBITMQ_PASSWORD, S3_SECRET_ACCESS_KEY"):
        project("run", "--rm", "--no-deps", "setup", BIND="0.0.0.0")


def test_our_containers_have_no_privileges_and_write_nowhere_else(project):
    for service in OURS:
        container = project.container(service)
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert "no-new-privileges:true" in host["SecurityOpt"], service
        assert container["Config"]["User"].startswith("10001:"), service
        assert host["RestartPolicy"]["Name"] == "unless-stopped", service


async def test_killed_services_restart_and_the_video_becomes_ready(project, tmp_path):
    long = make_clip(tmp_path / "long.mp4", seconds=40, size="1280x720")
    async with aiohttp.ClientSession() as session:
        client = Client(session, {"INGEST_URL": ENTRANCE}, project.addresses.key)
        uploaded = await client.upload(long, qualities="360p")
        await client.until(uploaded["id"], lambda record: record["stage"] == "encode", READY_SECONDS)
        for service in ("transcoder", "uploader", "streamer"):
            project.kill(service)
        await client.ready(uploaded["id"], READY_SECONDS)
        playlist = await fetch_patiently(session, f"{ENTRANCE}/api/stream/{uploaded['id']}/master.m3u8")
        assert playlist.startswith(b"#EXTM3U")
    assert all(project.container(service)["RestartCount"] == 1 for service in ("transcoder", "uploader"))


async def fetch_patiently(session: aiohttp.ClientSession, url: str) -> bytes:
    deadline = time.monotonic() + 60
    while True:
        async with session.get(url) as answer:
            if answer.status == 200 or time.monotonic() > deadline:
                return await answer.read()
        await asyncio.sleep(0.5)


def test_the_gpu_profile_adds_a_transcoder_with_a_device(project):
    plain = yaml.safe_load(project("config"))["services"]
    with_gpu = yaml.safe_load(project("config", **settings("encode on a GPU")))["services"]
    assert with_gpu["transcoder"]["scale"] == 0
    assert set(with_gpu) - set(plain) == {"transcoder-gpu"}
    (device,) = with_gpu["transcoder-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert {"gpu", "video", "compute", "utility"} == set(device["capabilities"])


def test_another_key_is_made(project):
    command = row(PAGE, "make another key")[0].replace("NAME", "second")
    (key,) = API_KEY.findall(project.newcomer.type(command))
    asked = project.newcomer.curl(f'curl -H "Authorization: Bearer {key}" $INGEST_URL/api/keys')
    assert {each["name"] for each in asked.json["keys"]} >= {"first", "second"}


def test_more_processes_encode_and_the_number_stays(project):
    more = settings("encode on more processes")
    project.change(".env", more)
    project.follow("encode on more processes")
    assert health_of(project, "transcoder") == ["healthy"] * int(more["TRANSCODERS"])


async def test_update_fetches_builds_and_starts_the_new_version(project, clip, tmp_path):
    async with aiohttp.ClientSession() as session:
        client, ready = await upload(project, session, clip)
        publish(project.newcomer.checkout, API_PAGE, "<!-- a new version -->\n")
        assert "new version" not in project.newcomer.curl("curl $INGEST_URL/docs").body
        began = time.monotonic()
        project.follow("update")
        print(f"update with a changed service: {time.monotonic() - began:.0f} s")
        assert "new version" in project.newcomer.curl("curl $INGEST_URL/docs").body
        assert len(health_of(project, "transcoder")) > 1, "the settings hold"
        await play(client, await client.record(ready["id"]), tmp_path, SMALL)


async def test_data_outlives_the_containers_and_the_change_to_a_work_bucket(project, clip, tmp_path):
    async with aiohttp.ClientSession() as session:
        client, ready = await upload(project, session, clip)
    project.follow("hand work over through S3")
    given = settings("hand work over through S3")
    project.change("vod.env", {"ADOPT_WORK_DIR": given.pop("ADOPT_WORK_DIR")})
    project.change(".env", given | {"TRANSCODERS": "1"})
    project.up()
    assert project.mounts("ingest")["/work"] != project.mounts("transcoder")["/work"]
    async with aiohttp.ClientSession() as session:
        client.session = session
        await play(client, await client.record(ready["id"]), tmp_path, SMALL)
    walked = await walk(project.addresses, clip, tmp_path)
    assert walked["storageType"] == "s3"


def health_of(project: Project, service: str) -> list[str]:
    return [container["State"]["Health"]["Status"] for container in project.containers(service)]


async def upload(
    project: Project, session: aiohttp.ClientSession, clip: Path
) -> tuple[Client, dict[str, Any]]:
    client = Client(session, {"INGEST_URL": ENTRANCE}, project.addresses.key)
    uploaded = await client.upload(clip, qualities="360p")
    return client, await client.ready(uploaded["id"], READY_SECONDS)
