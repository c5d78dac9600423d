"""compose.yaml with the settings of docs/containers.md: secrets, port, network, work bucket, variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.deploy.compose_project import PAGE, project_of, settings
from tests.deploy.video_lifecycle import READY_SECONDS, play
from tests.e2e.system import Client
from tests.newcomer import row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.deploy.compose_project import Project
    from tests.deploy.engine import Engine

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

OTHERS = "let others in"
NETWORK = "use another port or network"
BUCKET = "hand work over through S3"
WORK_BUCKET = "work-of-others"
KEYS = f"""
import asyncio, os
from aiobotocore.session import get_session

async def main():
    names = {{"endpoint_url": "S3_ENDPOINT_URL", "region_name": "S3_REGION"}}
    names |= {{"aws_access_key_id": "S3_ACCESS_KEY_ID", "aws_secret_access_key": "S3_SECRET_ACCESS_KEY"}}
    given = {{argument: os.environ[name] for argument, name in names.items()}}
    async with get_session().create_client("s3", **given) as s3:
        listed = await s3.list_objects_v2(Bucket="{WORK_BUCKET}")
        print(*(each["Key"] for each in listed.get("Contents", [])))

asyncio.run(main())
"""


def secrets() -> dict[str, str]:
    """Return a value for each secret that the page says to replace."""
    names = [code for code in row(PAGE, OTHERS) if code.endswith(("_PASSWORD", "_KEY"))]
    assert len(names) == 3
    return {name: f"own{number}" * 6 for number, name in enumerate(names)}


@pytest.fixture(scope="module")
def project(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A new project with everything that the page lets one set in `.env`, and variables in `vod.env`."""
    env = secrets() | {"BIND": settings(OTHERS)["BIND"]} | settings(NETWORK)
    env |= {"COMPOSE_FILE": settings(BUCKET)["COMPOSE_FILE"], "S3_WORK_BUCKET": WORK_BUCKET}
    folder, entrance = tmp_path_factory.mktemp("compose"), env["PUBLIC_STREAM_URL"]
    others = {"HLS_SEGMENT_SECONDS": "2"}
    with project_of(engine, folder, entrance=entrance, env=env, vod_env=others) as running:
        yield running


async def test_a_video_goes_from_upload_to_playback_through_a_work_bucket(project, clip, tmp_path):
    async with aiohttp.ClientSession() as session:
        client = Client(session, {"INGEST_URL": project.entrance}, project.addresses.key)
        uploaded = await client.upload(clip)
        assert f"work/originals/{uploaded['id']}/" in project("exec", "ingest", "python", "-c", KEYS)
        ready = await client.ready(uploaded["id"], READY_SECONDS)
        assert ready["playlistUrl"] == f"{project.entrance}/api/stream/{ready['id']}/master.m3u8"
        await play(client, ready, tmp_path)
        assert {len(each.segments) for each in (await client.play(ready, tmp_path)).values()} == {5}


async def test_others_reach_the_entrance(project):
    (network,) = project.container("edge")["NetworkSettings"]["Networks"].values()
    assert network["Gateway"].startswith(settings(NETWORK)["NETWORK"] + ".")
    url = f"http://{network['Gateway']}:{settings(NETWORK)['PORT']}/"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert (answer.status, answer.url.path) == (200, "/docs")


def test_no_two_services_share_a_directory(project):
    services = ("ingest", "transcoder", "uploader", "streamer")
    assert len({project.mounts(service)["/work"] for service in services}) == len(services)
