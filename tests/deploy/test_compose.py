"""compose.yaml on a fresh machine, and after failures of its parts."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import yaml

from devstack.programs import REPOSITORY
from tests.deploy.compose_plugin import docker_config
from tests.deploy.engine import EngineError
from tests.deploy.video_lifecycle import READY_SECONDS, Addresses, play, walk
from tests.e2e.system import Client, make_clip

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.deploy.engine import Engine

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

UP = ("up", "--detach", "--wait")  # as README.md and compose.yaml say
UP_SECONDS = 300.0
ENTRANCE = "http://localhost:8080"
SMALL = {"360p": (640, 360)}
OURS = ("ingest", "transcoder", "uploader", "streamer", "edge")


@dataclass(frozen=True)
class Project:
    """The project of compose.yaml."""

    engine: Engine

    def __call__(self, *arguments: str, seconds: float = UP_SECONDS, **given: str) -> str:
        return self.engine.docker(
            "compose", "--project-directory", str(REPOSITORY), *arguments, seconds=seconds, **given
        )

    def container(self, service: str) -> dict[str, Any]:
        """Return Docker's description of a service's container."""
        name = self("ps", "--all", "--quiet", service).strip()
        found: list[dict[str, Any]] = json.loads(self.engine.docker("inspect", name))
        return found[0]

    def kill(self, service: str) -> None:
        """End a service's process as the kernel does when memory is short."""
        os.kill(self.container(service)["State"]["Pid"], signal.SIGKILL)

    def addresses(self) -> Addresses:
        (key,) = set(re.findall(r"vod_[A-Za-z0-9_-]{43}", self("logs", "setup")))
        return Addresses(ENTRANCE, key)


@pytest.fixture(scope="module")
def project(engine: Engine) -> Iterator[Project]:
    """The project, up; everything of it is removed afterwards."""
    engine.environ |= {"DOCKER_CONFIG": str(docker_config()), "SANDBOX": "required"}
    running = Project(engine)
    began = time.monotonic()
    try:
        running(*UP)
        print(f"docker compose {' '.join(UP)}: {time.monotonic() - began:.0f} s")
        yield running
    except BaseException:
        print(running("ps", "--all"), running("logs", "--tail", "30"))
        raise
    finally:
        running("--profile", "gpu", "down", "--volumes")


async def test_a_video_goes_all_the_way_through_the_edge(project, clip, tmp_path):
    ready = await walk(project.addresses(), clip, tmp_path)
    assert ready["playlistUrl"] == f"{ENTRANCE}/api/stream/{ready['id']}/master.m3u8"
    assert ready["storageType"] == "s3"


async def test_a_segment_is_fetched_once_for_all_viewers(project, clip, tmp_path):
    async with aiohttp.ClientSession() as session:
        client, ready = await upload(project, session, clip)
        for _ in range(2):
            await play(client, ready, tmp_path, SMALL)
    lines = [
        json.loads(line)
        for line in project("logs", "--no-log-prefix", "edge").splitlines()
        if line[:1] == "{"
    ]
    caches = [line["cache"] for line in lines if line["path"].endswith(".ts") and ready["id"] in line["path"]]
    assert caches.count("HIT") >= len(caches) / 2 > 0


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
    before = project.addresses().key
    project(*UP)
    assert project.addresses().key == before
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
        client = Client(session, {"INGEST_URL": ENTRANCE}, project.addresses().key)
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


async def test_data_outlives_the_containers(project, clip, tmp_path):
    async with aiohttp.ClientSession() as session:
        client, ready = await upload(project, session, clip)
    key = project.addresses().key
    project("down")
    project(*UP)
    async with aiohttp.ClientSession() as session:
        client = Client(session, {"INGEST_URL": ENTRANCE}, key)
        await play(client, await client.record(ready["id"]), tmp_path, SMALL)


def test_the_gpu_profile_adds_a_transcoder_with_a_device(project):
    plain = yaml.safe_load(project("config"))["services"]
    with_gpu = yaml.safe_load(project("--profile", "gpu", "config"))["services"]
    assert set(with_gpu) - set(plain) == {"transcoder-gpu"}
    (device,) = with_gpu["transcoder-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert {"gpu", "video", "compute", "utility"} == set(device["capabilities"])


async def upload(
    project: Project, session: aiohttp.ClientSession, clip: Path
) -> tuple[Client, dict[str, Any]]:
    client = Client(session, {"INGEST_URL": ENTRANCE}, project.addresses().key)
    uploaded = await client.upload(clip, qualities="360p")
    return client, await client.ready(uploaded["id"], READY_SECONDS)
