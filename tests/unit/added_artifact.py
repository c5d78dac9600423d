"""A program for test_artifacts.py: takes a video with captions through all services.

It runs the code on its path. Captions are a kind that the product does not have. Prints what became of
them, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from services.streamer.authentication import AccessControl, KeysInForce
from services.streamer.catalog import create_catalog
from services.streamer.object_reader import StoredObjects
from services.streamer.routes import add_routes
from services.streamer.segment_urls import SegmentUrls
from services.streamer.stream_handler import ACCESS_CONTROL, CATALOG, OBJECTS, SEGMENT_URLS, TRUSTED_PROXIES
from services.uploader.fsck.check import Findings, Fsck
from services.uploader.maintenance.find_orphans import OrphanFinder
from services.uploader.retention import Retention
from shared import videos
from shared.errors import Deferred
from shared.service.resources import STORAGES
from shared.storage.memory import MemoryStorage
from shared.storage.storages import Storages
from shared.workspace.layout import WorkDir
from shared.workspace.volume import VolumeWorkspace
from tests.memory_database import MemoryPostgres
from tests.sample_video import SampleVideo
from tests.uploader_handlers import delete_handler, store_handler

if TYPE_CHECKING:
    from shared.database.pool import Database

CAPTIONS = b"WEBVTT"


async def main(volume: Path) -> dict[str, Any]:
    postgres, work, storage = MemoryPostgres(), WorkDir(volume), MemoryStorage("s3", bucket="videos")
    video = await SampleVideo(postgres.database, work, storage).encoded()
    made = work.chunks(video.video_id) / "captions.1.vtt"
    await asyncio.to_thread(made.write_bytes, CAPTIONS)
    await asyncio.to_thread((made.parent / "captions.0.vtt").write_bytes, CAPTIONS)  # of an earlier attempt
    keeps = Retention(delete_local_after_s3=False)
    finder = OrphanFinder(postgres.database, VolumeWorkspace(work), storage, keeps, min_age_seconds=-10.0)
    found = {"orphans": [each.name.rpartition("/")[2] async for each in finder.files()]}
    handler = store_handler(video.outbox, work, storage)
    for chunk in video.chunks:
        await handler.store(video.segmented(chunk))
    key = f"{video.prefix}/captions.vtt"
    found["stored"] = (await storage.head(key)) is not None
    found["record"] = (await video.record()).bytes == sum(len(body) for _, body in storage.objects.values())
    found["orphan_objects"] = [each.name async for each in finder.objects()]
    found["served"] = await get(postgres.database, storage, f"/api/stream/{video.video_id}/captions.vtt")
    found["intact"] = await faults(video, finder)
    await storage.delete(key)
    found["faults"] = await faults(video, finder)
    await storage.put_bytes(key, CAPTIONS)
    async with video.outbox.transaction() as connection:
        await videos.delete(connection, video.video_id)
    try:
        await delete_handler(video.outbox, work, storage).delete(video.delete)
    except Deferred:
        found["left"] = [*storage.objects, *(await asyncio.to_thread(list, made.parent.parent.iterdir()))]
    return found


async def faults(video: SampleVideo, finder: OrphanFinder) -> list[list[str]]:
    findings = Findings()
    fsck = Fsck(video.outbox, finder, Storages([finder.storage]))
    await fsck.check(findings, lambda *_: None)
    keys = [fault.key.rpartition("/")[2] for damage in findings.damaged for fault in damage.faults]
    await fsck.repair(findings, lambda *_: None)
    return [keys, [repair for damage in findings.damaged for repair in damage.repair or ()]]


async def get(database: Database, storage: MemoryStorage, path: str) -> list[Any]:
    app = web.Application()
    app[STORAGES] = storages = Storages([storage])
    app[CATALOG] = create_catalog(database, storages)
    app[ACCESS_CONTROL] = AccessControl(read_keys, own_origin="http://stream.example", hides_unknown=False)
    app[OBJECTS] = StoredObjects()
    app[SEGMENT_URLS] = SegmentUrls(storages, app[ACCESS_CONTROL], None)
    app[TRUSTED_PROXIES] = ()
    add_routes(app)
    async with TestClient(TestServer(app)) as client:
        answer = await client.get(path)
        return [answer.status, answer.headers["Content-Type"], await answer.text()]


async def read_keys(_: str) -> KeysInForce:
    return KeysInForce({}, None, has_private_videos=False)  # type: ignore[arg-type]


if __name__ == "__main__":
    print("\n" + json.dumps(asyncio.run(main(Path(sys.argv[1]))), default=str))
