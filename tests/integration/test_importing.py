"""An existing HLS tree in a storage becomes a video."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from aiohttp.test_utils import TestClient

from services.streamer import main as streamer
from services.uploader.fsck.check import Findings, Fsck
from services.uploader.importing.import_video import Importer, ImportRequest
from services.uploader.importing.tree import NotImportable
from shared.errors import PrivateNotPossible
from shared.playback.urls import PlaybackUrls
from shared.storage.placement import StorageRules
from tests.integration.test_named_storages import settings as settings  # noqa: PLC0414 - a fixture
from tests.integration.test_named_storages import system as system  # noqa: PLC0414 - a fixture
from tests.service_server import ServiceServer

if TYPE_CHECKING:
    from uuid import UUID

    from tests.integration.test_named_storages import System

PACKET = b"\x47" + bytes(187)
MASTER = """#EXTM3U
#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="avc1.64001f,mp4a.40.2",RESOLUTION=1280x720,FRAME-RATE=25
hd/index.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="avc1.64001e,mp4a.40.2",RESOLUTION=640x360
sd/index.m3u8
"""
MEDIA = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n0.ts\n#EXTINF:3.5,\n1.ts\n#EXT-X-ENDLIST\n"


async def put_tree(storage: Any, folder: str = "films/one") -> str:
    for name, packets in (("hd", 40), ("sd", 10)):
        await storage.put_bytes(f"{folder}/{name}/index.m3u8", MEDIA.encode())
        for number in (0, 1):
            await storage.put_bytes(f"{folder}/{name}/{number}.ts", PACKET * (packets - number))
    await storage.put_bytes(f"{folder}/thumbnail.jpg", b"jpeg")
    await storage.put_bytes(f"{folder}/main.m3u8", MASTER.encode())
    return f"{folder}/main.m3u8"


def importer(system: System, name: str = "shelf") -> Importer:
    urls, rules = PlaybackUrls.of(system.settings), StorageRules(system.settings.by_storage)
    storage = system.storages.named(name)
    return Importer(system.outbox, storage, urls, rules, system.work.root / "import.part")


async def outbox_of(system: System, video_id: UUID) -> list[str]:
    async with system.database.transaction() as connection:
        rows = await connection.fetch("select routing_key from outbox where video_id = $1", video_id)
    return [row["routing_key"] for row in rows]


@pytest.mark.parametrize("name", ["shelf", "default"])
async def test_a_tree_becomes_a_video_that_plays_and_that_fsck_knows(system: System, name: str) -> None:
    wanted = ImportRequest(await put_tree(system.storages.named(name)), "alice", title="One")
    video_id = await importer(system, name).run(wanted)
    video = await system.get(video_id)
    assert (video.status, video.title, video.storage_name) == ("ready", "One", name)
    assert (video.width, video.height, video.duration_seconds) == (1280, 720, 9.5)
    large, small = video.renditions
    assert (large.name, large.bandwidth, small.average_bandwidth) == ("hd", 16759, 3008)
    assert await outbox_of(system, video_id) == ["video.stored"]
    proxied = system.settings.model_copy(update={"delivery": "proxy"})
    async with TestClient(ServiceServer(streamer.create_app(proxied))) as client:
        for path, begin in (
            ("master.m3u8", b"#EXTM3U"),
            ("hd/playlist.m3u8", b"#EXTM3U"),
            ("thumbnail.jpg", b"j"),
        ):
            got = await client.get(f"/api/stream/{video_id}/{path}")
            assert (got.status, (await got.read())[: len(begin)]) == (200, begin)
        got = await client.get(f"/api/stream/{video_id}/sd/segment_002.ts")
        assert await got.read() == PACKET * 9
    await Fsck(system.outbox, system.finder, system.storages).check(findings := Findings(), lambda *_: None)
    assert (findings.checked, findings.damaged, findings.unreadable) == (1, [], {})


async def test_importing_again_changes_nothing(system: System) -> None:
    wanted = ImportRequest(await put_tree(system.storages.named("shelf")), "alice")
    video_id = await importer(system).run(wanted)
    assert await importer(system).run(wanted) == video_id
    assert await outbox_of(system, video_id) == ["video.stored"]


async def test_a_tree_of_ours_whose_record_is_lost_is_imported_in_place(system: System) -> None:
    video_id = await system.make(storage="shelf")
    shelf, prefix = system.storages.named("shelf"), f"hls/alice/{video_id}"
    await shelf.put_bytes(f"{prefix}/360p/segment_001.ts", PACKET * 2)
    async with system.database.transaction() as connection:
        for table in ("segments", "chunks", "videos"):
            await connection.execute(f"delete from {table}")
    before = {each.key for each in await shelf.keys(prefix)}
    assert await importer(system).run(ImportRequest(f"{prefix}/master.m3u8", "alice")) == video_id
    assert {each.key for each in await shelf.keys(prefix)} == before
    assert (await system.get(video_id)).status == "ready"


async def test_damage_of_an_imported_video_is_reported_and_cannot_be_repaired(system: System) -> None:
    wanted = ImportRequest(await put_tree(system.storages.named("shelf")), "alice")
    video_id = await importer(system).run(wanted)
    await system.storages.named("shelf").delete(f"hls/alice/{video_id}/master.m3u8")
    fsck = Fsck(system.outbox, system.finder, system.storages)
    await fsck.check(findings := Findings(), lambda *_: None)
    await fsck.repair(findings, lambda *_: None)
    assert [each.repair for each in findings.damaged] == [("no_original",)]
    assert (await system.get(video_id)).status == "ready"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"films/one/sd/1.ts": b""}, "which is missing or empty"),
        ({"films/one/hd/0.ts": b"<html>" * 100}, "is not an MPEG-TS segment"),
        ({"films/one/hd/index.m3u8": b"\xff\xfe"}, "is not UTF-8"),
        ({"films/one/main.m3u8": MASTER.replace(",FRAME-RATE=25", "").encode()}, "give --frame-rate"),
        (
            {"films/one/main.m3u8": MASTER.replace("sd/", "gone/").encode()},
            "no object films/one/gone",
        ),
    ],
)
async def test_an_incomplete_tree_is_refused_and_nothing_is_left(
    system: System, change: dict[str, bytes], told: str
) -> None:
    shelf = system.storages.named("shelf")
    key = await put_tree(shelf)
    for name, body in change.items():
        await shelf.put_bytes(name, body)
    with pytest.raises(NotImportable, match=told):
        await importer(system).run(ImportRequest(key, "alice"))
    assert [each.key for each in await shelf.keys("hls") if "/alice/" in each.key] == []


async def test_a_private_video_is_not_imported_where_anyone_can_read(system: System) -> None:
    wanted = ImportRequest(await put_tree(system.storages.default), "alice", visibility="private")
    with pytest.raises(PrivateNotPossible):
        await importer(system, "default").run(wanted)
    there = replace(wanted, key=await put_tree(system.storages.named("vault"), f"films/{uuid4()}"))
    assert (await system.get(await importer(system, "vault").run(there))).visibility == "private"
