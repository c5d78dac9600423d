from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from services.transcoder.sources import range_reader
from services.transcoder.sources.bucket_originals import BucketOriginals
from services.transcoder.sources.node_cache import NodeCache
from services.transcoder.sources.range_reader import Opened
from shared.errors import (
    LimitsExceeded,
    OriginalMissing,
    SourceFetchFailed,
    SourceUnavailable,
    StorageUnavailable,
    WorkVolumeUnavailable,
)
from shared.storage.memory import MemoryStorage
from shared.workspace import names
from shared.workspace.bucket import BucketWorkspace
from shared.workspace.disk_budget import DiskBudget
from shared.workspace.layout import WorkDir

VIDEO, OTHER = uuid4(), uuid4()
FILM = os.urandom(200_000)
KEY = f"work/{names.original(VIDEO)}"
HTTPS = "https://films.example/film.mp4"


@pytest.fixture
def storage():
    return MemoryStorage("s3", bucket="private")


@pytest.fixture
def work(storage, tmp_path):
    (tmp_path / "uploads").mkdir()
    return BucketWorkspace(WorkDir(tmp_path), storage, "work", part_bytes=64 * 1024)


def opener(content=FILM, error=None):
    @asynccontextmanager
    async def open_(_uri):
        async def blocks():
            for place in range(0, len(content), 30_000):
                yield content[place : place + 30_000]
            if error:
                raise error

        yield Opened(blocks(), len(content))

    return open_


def originals(work, tmp_path, **openers):
    cache = NodeCache(tmp_path / "sources", DiskBudget(tmp_path, 0), max_bytes=10**9)
    return BucketOriginals(work, cache, openers, max_bytes=250_000)


async def read_all(found, uri):
    async with found.open(VIDEO, uri) as source:
        await source.need_all()
        return await asyncio.to_thread(source.path.read_bytes)


async def test_a_remote_source_is_copied_into_the_bucket_once(work, storage, tmp_path):
    found = originals(work, tmp_path, https=opener())
    assert await found.size(VIDEO, HTTPS) is None
    await found.fetch(VIDEO, HTTPS)
    assert storage.objects[KEY][1] == FILM
    await originals(work, tmp_path, https=opener(error=AssertionError("read"))).fetch(VIDEO, HTTPS)
    assert await found.size(VIDEO, HTTPS) == len(FILM)
    assert await read_all(found, HTTPS) == FILM


@pytest.mark.parametrize(
    ("open_", "error"),
    [
        (opener(error=SourceFetchFailed("cut")), SourceFetchFailed),
        (opener(bytes(300_000)), LimitsExceeded),
    ],
)
async def test_nothing_is_left_in_the_bucket_when_a_source_cannot_be_copied(
    work, storage, tmp_path, open_, error
):
    with pytest.raises(error):
        await originals(work, tmp_path, https=open_).fetch(VIDEO, HTTPS)
    assert storage.objects == {}


@pytest.mark.parametrize("ends", [SourceFetchFailed("cut"), None])
async def test_a_late_attempt_neither_removes_nor_replaces_what_another_one_fetched(
    work, storage, tmp_path, ends
):
    arrived, may_go_on = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def slow(_uri):
        async def blocks():
            for place in range(0, len(FILM), 30_000):
                yield FILM[place : place + 30_000]
            arrived.set()
            await may_go_on.wait()
            if ends:
                raise ends

        yield Opened(blocks(), len(FILM))

    late = asyncio.create_task(originals(work, tmp_path, https=slow).fetch(VIDEO, HTTPS))
    await arrived.wait()
    await originals(work, tmp_path, https=opener()).fetch(VIDEO, HTTPS)
    fetched = storage.objects[KEY]
    may_go_on.set()
    await asyncio.wait([late])
    assert late.exception() is ends
    assert storage.objects == {KEY: fetched}
    assert storage.uploads == []


async def test_only_the_requested_parts_of_an_upload_are_read(work, storage, tmp_path):
    await storage.put_bytes(KEY, FILM)
    found = originals(work, tmp_path)
    async with found.open(VIDEO, work.uri_of(VIDEO)) as source:
        assert source.is_remote
        await source.need([(1000, 2000)])
        copy = source.path.read_bytes()
        assert (copy[1000:2000], copy[5000:]) == (FILM[1000:2000], bytes(len(FILM) - 5000))
        assert not await source.is_whole()


async def test_another_original_of_the_video_is_not_mixed_with_the_one_before(work, storage, tmp_path):
    await storage.put_bytes(KEY, FILM)
    found, uri = originals(work, tmp_path), work.uri_of(VIDEO)
    assert await read_all(found, uri) == FILM
    stored, _ = storage.objects[KEY]
    later = stored.modified + timedelta(seconds=1)  # S3 reports whole seconds only
    storage.objects[KEY] = replace(stored, modified=later), FILM[::-1]
    assert await read_all(found, uri) == FILM[::-1]


@pytest.mark.parametrize(
    "uri",
    ["file:///etc/passwd", f"file:///originals/{OTHER}/source", "ftp://x/y"],
    ids=["system file", "another video", "another scheme"],
)
async def test_only_the_video_s_own_file_is_a_source(work, storage, tmp_path, uri):
    await storage.put_bytes(f"work/{names.original(OTHER)}", FILM)
    found = originals(work, tmp_path, https=opener())
    for attempt in (found.fetch, found.size):
        with pytest.raises(SourceUnavailable):
            await attempt(VIDEO, uri)


async def test_a_missing_original_is_named_in_the_error(work, tmp_path):
    found, uri = originals(work, tmp_path), work.uri_of(VIDEO)
    with pytest.raises(OriginalMissing):
        await found.fetch(VIDEO, uri)
    with pytest.raises(OriginalMissing):
        await read_all(found, uri)


class Away(MemoryStorage):
    """A storage whose reads break."""

    def read(self, *_args, **_options):
        raise StorageUnavailable("it does not answer")


async def test_the_work_is_left_to_others_while_the_bucket_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(range_reader.RemoteReader, "cut_seconds", 0)
    monkeypatch.setattr(range_reader, "MAX_CUTS", 1)
    (tmp_path / "uploads").mkdir()
    storage = Away("s3", bucket="private")
    await storage.put_bytes(KEY, FILM)
    away = BucketWorkspace(WorkDir(tmp_path), storage, "work")
    with pytest.raises(WorkVolumeUnavailable):
        await read_all(originals(away, tmp_path), away.uri_of(VIDEO))
