"""What players get while a video moves: its record may be a little older than its objects."""

from __future__ import annotations

from uuid import uuid4

import pytest

from services.streamer.availability import Availability
from shared.errors import DatabaseUnavailable
from shared.storage.memory import MemoryStorage
from shared.storage.storages import Storages
from tests.unit.test_streamer_availability import ready
from tests.unit.test_streamer_http import BASE, KEY, streamer_of

FILES = ("master.m3u8", "720p/playlist.m3u8", "720p/segment_001.ts", "thumbnail.jpg")


class Record:
    """A video's record in Postgres, and how often it was read."""

    def __init__(self, storage: MemoryStorage) -> None:
        self.storage, self.reads, self.revision, self.visibility = storage, 0, 4, "public"

    async def read(self, _: object) -> Availability:
        self.reads += 1
        at = self.storage.location
        place = {"storage_type": at.storage_type, "s3_bucket": at.s3_bucket, "storage_id": at.storage_id}
        return Availability(ready(**place, revision=self.revision, visibility=self.visibility))

    def move(self, to: MemoryStorage) -> None:
        """Switch to another storage, and remove the old objects at once."""
        to.objects.update(self.storage.objects)
        self.storage.objects.clear()
        self.storage, self.revision = to, self.revision + 1


@pytest.fixture(autouse=True)
def _no_record_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.streamer.single_flight_cache.FRESH_SECONDS", 0.0)


@pytest.fixture
async def old() -> MemoryStorage:
    made = MemoryStorage("s3", bucket="videos", storage_id=uuid4())
    for name in FILES:
        await made.put_bytes(f"{KEY}/{name}", b"#EXTM3U\n")
    return made


@pytest.fixture
def new() -> MemoryStorage:
    return MemoryStorage("s3", bucket="shelf", storage_id=uuid4(), name="shelf")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", FILES)
async def test_objects_that_were_moved_are_sent_from_their_new_storage(old, new, name, method):
    record = Record(old)
    async with streamer_of(Storages([old, new]), record.read) as client:
        other = next(each for each in FILES if each != name)
        assert (await client.get(f"{BASE}/{other}")).status == 200  # the record is in memory now
        record.move(new)
        assert (await client.request(method, f"{BASE}/{name}")).status == 200


async def test_video_that_became_private_with_its_move_is_not_sent(old, new):
    record = Record(old)
    async with streamer_of(Storages([old, new]), record.read) as client:
        assert (await client.get(f"{BASE}/master.m3u8")).status == 200
        record.move(new)
        record.visibility = "private"
        assert (await client.get(f"{BASE}/720p/segment_001.ts")).status == 401


@pytest.mark.parametrize("name", FILES)
async def test_missing_object_is_looked_up_once_in_the_new_storage(old, new, name):
    record = Record(old)
    async with streamer_of(Storages([old, new]), record.read) as client:
        old.objects.pop(f"{KEY}/{name}")
        assert (await client.get(f"{BASE}/{name}")).status == 404
        assert record.reads <= 2
        record.move(new)
        assert (await client.get(f"{BASE}/{name}")).status == 404


async def test_missing_object_is_missing_while_postgres_is_unavailable(old):
    record, known = Record(old), []

    async def read(video_id: object) -> Availability:
        if known:
            raise DatabaseUnavailable("connection refused")
        known.append(await record.read(video_id))
        return known[0]

    async with streamer_of(Storages([old]), read) as client:
        assert (await client.get(f"{BASE}/master.m3u8")).status == 200
        assert (await client.get(f"{BASE}/720p/segment_999.ts")).status == 404
