"""The view of the transcoders' backlog, and the command that creates it."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from shared import videos
from tests.sample_video import SampleVideo

if TYPE_CHECKING:
    from shared.database.pool import Database


async def backlog(database: Database) -> dict[str, Any]:
    async with database.transaction() as connection:
        return dict(await connection.fetchrow("select * from encoding_backlog"))


async def test_backlog_counts_waiting_and_current_work_of_videos_in_progress(database):
    idle = {"videos_being_planned": 0, "waiting_seconds": 0, "encoding_seconds": 0, "chunks_being_encoded": 0}
    assert await backlog(database) == idle
    video = await SampleVideo(database).accepted()
    async with database.transaction() as connection:
        await videos.claim_plan(connection, video.video_id, lease_seconds=30)
    assert await backlog(database) == idle | {"videos_being_planned": 1}
    video = await SampleVideo(database).planned()
    async with database.transaction() as connection:
        seconds = dict(await connection.fetch("select chunk, seconds from chunks"))
        await videos.claim_chunk(connection, video.video_id, 0, lease_seconds=30)
    total, first = sum(seconds.values()), seconds[0]
    in_work = {"waiting_seconds": total - first, "encoding_seconds": first, "chunks_being_encoded": 1}
    assert await backlog(database) == pytest.approx(idle | {"videos_being_planned": 1} | in_work)
    async with database.transaction() as connection:
        await connection.execute("update videos set status = 'failed'")
    assert await backlog(database) == idle


async def test_migrate_command_makes_the_schema_from_the_address_of_the_database_alone(empty_database_url):
    command = (sys.executable, "-m", "services.uploader", "migrate")
    environment = {"DATABASE_URL": empty_database_url, "PATH": os.environ["PATH"]}
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(*command, env=environment)
        assert await asyncio.wait_for(process.wait(), 60) == 0
    connection = await asyncpg.connect(empty_database_url)
    assert await connection.fetchval("select count(*) from schema_migrations") > 20
    await connection.close()
