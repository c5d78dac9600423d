"""Storage on a real S3 server fulfils the contract of the storages."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aiohttp
import pytest

from shared.errors import StorageUnavailable
from shared.storage import open_storage
from shared.storage.open_storage import open_s3
from shared.storage.s3.copying import PART_BYTES, ServerCopies
from shared.storage.s3.storage import S3Storage
from tests.storage_contract import StorageContract

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.settings import Settings
    from shared.storage import Storage


@pytest.fixture
def settings(servers: Any, tmp_path: Path) -> Settings:
    made: Settings = servers.settings(work_dir=tmp_path, storage_type="s3")
    return made


@pytest.fixture
async def storage(settings: Settings) -> AsyncIterator[Storage]:
    async with open_storage(settings) as opened:
        yield opened


@pytest.fixture
async def prefix(storage: Storage) -> AsyncIterator[str]:
    name = f"test/{uuid4().hex}"
    yield name
    await storage.delete_prefix(name)


@pytest.fixture
def begin_upload(storage: Storage) -> Any:
    async def begin(key: str) -> None:
        assert isinstance(storage, S3Storage)
        await storage.client.create_multipart_upload(Bucket=storage.bucket, Key=key)

    return begin


class TestS3Storage(StorageContract):
    pass


async def _get(url: str) -> tuple[int, dict[str, str], bytes]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, dict(answer.headers), await answer.read()


async def test_presigned_url_can_be_read_by_anyone(storage: Storage, prefix: str) -> None:
    await storage.put_bytes(f"{prefix}/master.m3u8", b"#EXTM3U\n")
    url_of = await storage.presigner(at=datetime.now(UTC), seconds=60)
    assert url_of
    url = url_of(f"{prefix}/master.m3u8")
    status, headers, body = await _get(url)
    assert (status, body) == (200, b"#EXTM3U\n")
    assert headers["Content-Type"] == "application/vnd.apple.mpegurl"
    assert headers["Cache-Control"] == "public, max-age=60"
    assert (await _get(url.split("?")[0]))[0] in (400, 401, 403)  # rclone calls it a bad request


async def test_put_file_names_type_and_caching_when_the_object_is_large(
    storage: Storage, prefix: str, tmp_path: Path
) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(65 * 1024**2)
    await storage.put_file(f"{prefix}/segment_001.ts", path)
    assert isinstance(storage, S3Storage)
    answer = await storage.client.head_object(Bucket=storage.bucket, Key=f"{prefix}/segment_001.ts")
    assert answer["ContentType"] == "video/mp2t"
    assert answer["CacheControl"] == "public, max-age=31536000, immutable"
    pending = await storage.client.list_multipart_uploads(Bucket=storage.bucket)
    assert f"{prefix}/segment_001.ts" not in [upload["Key"] for upload in pending.get("Uploads", [])]


async def test_check_names_the_bucket_when_it_is_missing(settings: Settings) -> None:
    wrong = settings.model_copy(update={"s3_bucket": "no-such-bucket"})
    async with open_s3(wrong, attempts=1) as storage:
        with pytest.raises(StorageUnavailable, match=r"bucket no-such-bucket.*NoSuchBucket.*S3_BUCKET"):
            await storage.check()


async def test_check_names_the_keys_when_they_are_wrong(settings: Settings) -> None:
    wrong = settings.model_copy(update={"s3_access_key_id": "nobody"})
    async with open_s3(wrong, attempts=1) as storage:
        with pytest.raises(StorageUnavailable, match="check S3_ACCESS_KEY_ID"):
            await storage.check()


async def test_read_leaves_no_connection_open_when_the_body_is_not_read_to_its_end(
    settings: Settings, prefix: str
) -> None:
    async with open_s3(settings, connections=2) as storage:
        await storage.put_bytes(f"{prefix}/segment_001.ts", bytes(4 * 1024**2))
        for _ in range(6):  # more than there are connections: a leak would block
            async with storage.read(f"{prefix}/segment_001.ts") as reader:
                async for _ in reader:
                    break


@pytest.mark.parametrize("part_bytes", [PART_BYTES, 5 * 1024**2])
async def test_the_server_copies_between_buckets_and_describes_the_object_by_its_new_name(
    settings: Settings, storage: Storage, prefix: str, part_bytes: int
) -> None:
    """No byte passes through this process, whether the object is copied whole or in parts."""

    async def read(start: int, length: int) -> bytes:
        raise AssertionError(f"{length} bytes were read from {start}")

    assert isinstance(storage, S3Storage)
    other = f"work-{uuid4().hex[:8]}"
    body = os.urandom(12 * 1024**2)
    async with open_s3(settings.model_copy(update={"s3_bucket": other})) as work:
        await work.client.create_bucket(Bucket=other)
        try:
            await work.put_bytes("work/chunks/1/720p_001.part", body)
            stored = await work.head("work/chunks/1/720p_001.part")
            assert stored
            target = replace(storage, copies=ServerCopies(part_bytes))
            assert await target.copy_from(work, stored, f"{prefix}/segment_001.ts", read) == len(body)
        finally:
            await work.delete("work/chunks/1/720p_001.part")
            await work.client.delete_bucket(Bucket=other)
    async with storage.read(f"{prefix}/segment_001.ts") as reader:
        assert await reader.body() == body
    answer = await storage.client.head_object(Bucket=storage.bucket, Key=f"{prefix}/segment_001.ts")
    assert answer["ContentType"] == "video/mp2t"
    assert answer["CacheControl"] == "public, max-age=31536000, immutable"
    assert await storage.open_uploads(prefix) == []
