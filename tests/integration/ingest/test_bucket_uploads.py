"""Uploads into the work bucket: nothing on disk, little in memory, and gone if they fail."""

from __future__ import annotations

import io
import os
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import aiohttp
import pytest

from shared.service.workspace import open_workspace
from shared.workspace import names
from shared.workspace.scratch import LOCK
from tests.integration.ingest.conftest import serving

MIB = 1024**2
RESIDENT_PAGES = 1  # the second number of /proc/self/statm


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[RESIDENT_PAGES])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def bucket(servers, tmp_path):
    place = {"storage_type": "s3", "work": "bucket", "s3_work_prefix": f"work-{uuid4().hex}"}
    return place | {"max_upload_bytes": 300 * MIB}


@pytest.fixture
async def work(servers, bucket, tmp_path):
    async with open_workspace(servers.settings(work_dir=tmp_path, **bucket)) as opened:
        yield opened
        await opened.storage.delete_prefix(opened.prefix)


def files(directory):
    return [path for path in directory.rglob("*") if path.is_file()]


@pytest.fixture
def served(servers, database, database_url, tmp_path):
    """Return a function that serves the API with changed settings."""
    return partial(serving, servers, database, tmp_path, database_url=database_url)


async def test_large_upload_needs_no_disk_and_little_memory(served, tmp_path, bucket, work):
    seen, block, blocks = [], os.urandom(MIB), 200

    async def film():
        for _ in range(blocks):
            seen.append(resident_bytes())
            yield block

    async with served(**bucket) as api:
        with aiohttp.MultipartWriter("form-data") as form:
            part = form.append_payload(aiohttp.payload.AsyncIterablePayload(film()))
            part.set_content_disposition("form-data", name="file", filename="film.mp4")
        status, record, _ = await api.call("POST", "/api/videos/upload", data=form)
        assert status == 202, record
        assert files(tmp_path) == [tmp_path / LOCK]
    original = names.original(UUID(record["id"]))
    assert await work.sizes([original]) == {original: blocks * MIB}
    assert max(seen) - seen[20] < 64 * MIB, "it was 20 MiB then"
    assert not await work.is_uploading(UUID(record["id"]))


async def test_upload_that_is_refused_leaves_nothing(served, bucket, work):
    bucket |= {"max_upload_bytes": 12 * MIB}
    async with served(**bucket) as api:
        form = aiohttp.FormData()
        form.add_field("file", io.BytesIO(b"x" * 13 * MIB), filename="film.mp4")
        status, told, _ = await api.call("POST", "/api/videos/upload", data=form)
        assert (status, told["reason"]) == (413, "upload_too_large")
    left = [each.key for each in await work.storage.keys(work.prefix)]
    assert left == [f"{work.prefix}/{names.MARKER}"]
    assert await work.storage.open_uploads(work.prefix) == []
