"""The start of a run: ten services start at once on an empty database, then the usual number remains."""

from __future__ import annotations

import asyncio
import random
import sys
from typing import TYPE_CHECKING

from aiobotocore.session import get_session

from tests.chaos.cluster.environment import WORK_BUCKET
from tests.chaos.cluster.servers import REPO
from tests.chaos.failpoints import Points, known_points
from tests.chaos.faults.injector import Injector
from tests.chaos.journal import Journal
from tests.chaos.killer import Killer
from tests.chaos.workload.client import Api, Platform
from tests.chaos.workload.clips import LADDER
from tests.chaos.workload.videos import SOURCES, Traffic

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from tests.chaos.cluster.environment import Environment
    from tests.chaos.cluster.services import Fleet
    from tests.chaos.workload.clips import Clip

CROWD = {"ingest": 3, "transcoder": 3, "uploader": 2, "streamer": 2}
CREW = {"ingest": 2, "transcoder": 3, "uploader": 2, "streamer": 2}
CROWD_SECONDS = 240.0  # ten Pythons that start at once on two busy cores


async def open_run(
    environment: Environment,
    fleet: Fleet,
    clips: list[Clip],
    session: aiohttp.ClientSession,
    *,
    seed: int,
    pace: float,
) -> tuple[Injector, Killer]:
    """Start the services and return everything a run needs. Raises TimeoutError, RuntimeError."""
    env = environment.servers.env
    await _put_sources(env, clips)
    fleet.grow(CROWD)
    await fleet.ready(CROWD_SECONDS)
    if fleet.deaths:
        raise RuntimeError(f"services died during the concurrent start: {'; '.join(fleet.deaths)}")
    await fleet.shrink(CREW)
    fleet.of("streamer")[0].spared = True  # that of the viewers
    draw = random.Random(seed)
    api = Api(session, fleet, await _admin_key(fleet.env))
    answer = await api.call("PUT", "/api/presets", json=LADDER)
    if answer.status != 200:
        raise RuntimeError(f"the presets were refused: {answer.status} {answer.body}")
    journal, platform, points = Journal(), Platform(env["RABBITMQ_URL"]), Points(environment.points)
    killer = Killer(fleet, points, journal, known_points(), random.Random(draw.random()), pace)
    traffic = Traffic(api, platform, journal, environment, clips, random.Random(draw.random()))
    traffic.wanted = lambda: {*killer.armed}
    return Injector(environment, fleet, journal, traffic, platform, random.Random(draw.random())), killer


async def _put_sources(env: Mapping[str, str], clips: list[Clip]) -> None:
    """Put the clips into a separate bucket, for events that name objects; make the work bucket."""
    async with get_session().create_client(
        "s3",
        endpoint_url=env["S3_ENDPOINT_URL"],
        region_name=env["S3_REGION"],
        aws_access_key_id=env["S3_ACCESS_KEY_ID"],
        aws_secret_access_key=env["S3_SECRET_ACCESS_KEY"],
    ) as client:
        for bucket in (SOURCES, WORK_BUCKET):
            await client.create_bucket(Bucket=bucket)
        for clip in clips:
            await client.put_object(Bucket=SOURCES, Key=clip.path.name, Body=clip.path.read_bytes())


async def _admin_key(env: Mapping[str, str]) -> str:
    """Create the first key as an operator does."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.ingest", "create-key", "--scope", "admin", "--name", "chaos"),
        cwd=REPO,
        env=dict(env),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"no admin key: {complained.decode(errors='replace')[-2000:]}")
    return said.decode().split()[-1]
