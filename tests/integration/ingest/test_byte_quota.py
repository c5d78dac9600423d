"""The bytes of originals that a user may have: kept ones, and those being uploaded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from shared import videos
from shared.telemetry.metrics import REFUSED
from tests.integration.ingest.conftest import assert_problem, serving
from tests.integration.ingest.raw import MULTIPART, UPLOAD, part
from tests.integration.ingest.test_admission import answer_to_head, under_way

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.database.pool import Database
    from tests.integration.ingest.conftest import Api

LIMIT = 1_300_000


@pytest.fixture
async def api(servers: Any, database: Database, database_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    changes = {"database_url": database_url, "max_bytes_per_user": LIMIT}
    async with serving(servers, database, tmp_path, **changes) as opened:
        yield opened


async def test_an_upload_beyond_the_quota_is_refused_before_its_body_is_read(api: Api) -> None:
    assert (await api.upload(bytes(1_000_000)))[0] == 202
    before = REFUSED.labels("quota_exceeded")._value.get()
    status, headers, (reader, writer) = await answer_to_head(api, 400_000)
    assert (status, headers["Content-Type"].partition(";")[0]) == ("403", "application/problem+json")
    said = (await reader.read(int(headers["Content-Length"]))).decode()
    assert "alice uses 1000000 of 1300000 bytes for originals" in said
    writer.close()
    assert REFUSED.labels("quota_exceeded")._value.get() == before + 1
    assert (await api.upload(bytes(200_000)))[0] == 202
    assert (await api.upload(bytes(1_000_000), as_="bob"))[0] == 202, "each user has a separate limit"


async def test_uploads_in_progress_count(api: Api) -> None:
    async with under_way(api) as finish:
        async with asyncio.timeout(30):
            while await status_of_head(api, 400_000) != "403":  # counted as soon as its fields are read
                await asyncio.sleep(0.05)
        assert await finish() == "202"


async def status_of_head(api: Api, size_bytes: int) -> str:
    """Return how an upload is answered before its body is sent, and give it up."""
    status, _, (_, writer) = await answer_to_head(api, size_bytes)
    writer.close()
    await writer.wait_closed()
    return str(status)


async def test_an_upload_of_unknown_length_is_refused_as_it_grows(api: Api) -> None:
    sent = 0

    async def film() -> AsyncIterator[bytes]:
        nonlocal sent
        yield part("file", b"", "film.mp4").removesuffix(b"\r\n")
        for sent in range(100_000, 2_000_000, 100_000):  # noqa: B007
            yield bytes(100_000)

    result = await api.call("POST", UPLOAD, data=film(), headers=MULTIPART)
    assert_problem(result, 403, "quota_exceeded")
    assert api.files() == []
    assert (await api.upload(bytes(1_000_000)))[0] == 202, "refused uploads are no longer counted"


async def test_the_user_whom_a_form_names_is_the_one_who_is_limited(api: Api) -> None:
    assert (await api.upload(bytes(1_000_000), as_="service", userId="carol"))[0] == 202
    assert_problem(await api.upload(bytes(400_000), as_="service", userId="carol"), 403, "quota_exceeded")
    assert (await api.upload(bytes(400_000), as_="service", userId="dave"))[0] == 202


async def test_uploads_to_several_processes_are_limited_when_they_are_accepted(
    api: Api, servers: Any, database: Database, database_url: str
) -> None:
    changes = {"database_url": database_url, "max_bytes_per_user": LIMIT}
    async with under_way(api) as finish, serving(servers, database, api.work_dir, **changes) as other:
        assert (await other.upload(bytes(1_000_000)))[0] == 202
        assert await finish() == "403"
    assert await api.rows("select count(*) from videos") == [{"count": 1}]


async def test_a_deleted_video_frees_quota(api: Api) -> None:
    video_id = (await api.upload(bytes(1_000_000)))[1]["id"]
    assert_problem(await api.upload(bytes(1_000_000)), 403, "quota_exceeded")
    assert (await api.call("DELETE", f"/api/videos/{video_id}"))[0] == 204
    assert (await api.upload(bytes(1_000_000)))[0] == 202


async def test_a_removed_original_frees_quota_and_its_video_says_so_on_retry(api: Api) -> None:
    video_id = (await api.upload(bytes(1_000_000)))[1]["id"]
    await api.fail(UUID(video_id))
    async with api.database.transaction() as connection:
        await videos.mark_originals_removed(connection, [UUID(video_id)])
    assert (await api.upload(bytes(1_000_000)))[0] == 202
    result = await api.call("POST", f"/api/videos/{video_id}/retry")
    assert_problem(result, 409, "original_removed")
    assert "upload it again" in result[1]["detail"]
    all_of_a_kind = await api.call("POST", "/api/videos/retry?reason=internal_error", as_="admin")
    assert all_of_a_kind[1] == {"retried": 0}
    assert (await api.call("GET", f"/api/videos/{video_id}"))[1]["status"] == "failed"


async def test_there_is_no_limit_by_default(
    servers: Any, database: Database, database_url: str, tmp_path: Path
) -> None:
    async with serving(servers, database, tmp_path, database_url=database_url) as api:
        for _ in range(3):
            assert (await api.upload(bytes(1_000_000)))[0] == 202
