"""An existing HLS tree in a storage becomes a video; in memory."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import uuid4

import pytest

from services.uploader.importing.import_video import Importer, ImportRequest
from services.uploader.importing.tree import NotImportable
from shared import videos
from shared.errors import PrivateNotPossible, StorageMismatch
from shared.storage.marker import Marker, write_marker
from shared.storage.memory import MemoryStorage
from shared.storage.placement import StorageRules
from tests.uploader_handlers import URLS

PACKET = b"\x47" + bytes(187)
MASTER = """#EXTM3U
#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="avc1.64001f,mp4a.40.2",RESOLUTION=1280x720,FRAME-RATE=25
hd/index.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="avc1.64001e,mp4a.40.2",RESOLUTION=640x360
sd/index.m3u8
"""
MEDIA = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n0.ts\n#EXTINF:3.5,\n1.ts\n#EXT-X-ENDLIST\n"


@pytest.fixture
async def storage():
    made = MemoryStorage(kind="s3", bucket="videos", storage_id=uuid4())
    await write_marker(made, Marker(made.storage_id))
    for name, packets in (("hd", 40), ("sd", 10)):
        await made.put_bytes(f"films/one/{name}/index.m3u8", MEDIA.encode())
        for number in (0, 1):
            await made.put_bytes(f"films/one/{name}/{number}.ts", PACKET * (packets - number))
    await made.put_bytes("films/one/thumbnail.jpg", b"jpeg")
    await made.put_bytes("films/one/main.m3u8", MASTER.encode())
    return made


@pytest.fixture
def importer(outbox, storage, tmp_path):
    configured = SimpleNamespace(storage_type="s3", s3_bucket="videos", s3_public_url="", is_public=False)
    configured.takes_private = configured.is_choosable = True
    rules = StorageRules({storage.name: configured})
    return Importer(outbox, storage, URLS, rules, tmp_path / "import.part")


WANTED = ImportRequest("films/one/main.m3u8", "alice", title="One")


async def test_tree_becomes_a_video_and_a_second_import_changes_nothing(importer, storage, outbox, postgres):
    video_id = await importer.run(WANTED)
    async with outbox.transaction() as connection:
        video = await videos.get(connection, video_id)
        assert await videos.stored_segments(connection, video_id)
    assert (video.status, video.title, video.width, video.duration_seconds) == ("ready", "One", 1280, 9.5)
    assert [rendition.name for rendition in video.renditions] == ["hd", "sd"]
    prefix = f"hls/alice/{video_id}"
    kept = {key: body for key, (_, body) in storage.objects.items() if key.startswith(prefix)}
    assert kept[f"{prefix}/sd/segment_002.ts"] == PACKET * 9
    assert kept[f"{prefix}/thumbnail.jpg"] == b"jpeg"
    assert b"hd/playlist.m3u8" in kept[f"{prefix}/master.m3u8"]
    assert video.bytes == sum(map(len, kept.values()))
    assert [key for key, _ in postgres.sent] == ["video.stored"]
    assert await importer.run(WANTED) == video_id
    assert len(postgres.sent) == len(postgres.rows("videos")) == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("films/one/main.m3u8", None), "there is no object"),
        (("films/one/main.m3u8", b"\xff\xfe"), "not UTF-8"),
        (("films/one/hd/1.ts", None), "missing or empty"),
        (("films/one/hd/0.ts", b"no transport stream" * 20), "not an MPEG-TS segment"),
        (("films/one/hd/index.m3u8", MEDIA.replace("#EXT-X-ENDLIST\n", "").encode()), "still growing"),
        (("films/one/main.m3u8", MASTER.replace(",FRAME-RATE=25", "").encode()), "give --frame-rate"),
    ],
)
async def test_incomplete_tree_is_refused_and_leaves_no_record(importer, storage, postgres, change, why):
    key, content = change
    if content is None:
        del storage.objects[key]
    else:
        await storage.put_bytes(key, content)
    with pytest.raises(NotImportable, match=why):
        await importer.run(WANTED)
    assert postgres.rows("videos") == []


async def test_record_of_a_deleted_video_or_of_another_user_is_not_used_for_the_import(importer, postgres):
    video_id = await importer.run(WANTED)
    with pytest.raises(NotImportable, match=f"is already the video {video_id} of another user"):
        await importer.run(ImportRequest(WANTED.key, "bob"))
    async with importer.outbox.transaction() as connection:
        await videos.delete(connection, video_id)
    with pytest.raises(NotImportable, match=f"was the video {video_id}, which is deleted"):
        await importer.run(WANTED)
    assert len(postgres.rows("videos")) == 1


async def test_private_video_is_not_imported_into_a_public_storage(importer, storage):
    configured = importer.rules.by_name[storage.name]
    configured.is_public, configured.takes_private = True, False
    with pytest.raises(PrivateNotPossible):
        await importer.run(ImportRequest(WANTED.key, "alice", visibility="private"))


async def test_nothing_is_imported_from_a_storage_other_than_the_identified_one(importer, storage):
    storage.storage_id = uuid4()
    with pytest.raises(StorageMismatch):
        await importer.run(WANTED)
