"""Which storage an upload goes to: by user, by upload, and for private videos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shared import videos
from shared.settings import NamedStorage
from shared.storage.location import StorageLocation
from tests.integration.ingest.conftest import assert_problem, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.database.pool import Database
    from tests.integration.ingest.conftest import Api


@pytest.fixture
async def api(servers: Any, database: Database, database_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    storages = (
        NamedStorage(name="shelf", directory=tmp_path / "shelf", choosable=True),
        NamedStorage(name="vault", directory=tmp_path / "vault", private=True),
    )
    public = {"storage_type": "s3", "s3_public_url": "https://cdn.example", "storages": storages}
    (tmp_path / "work").mkdir()
    async with serving(servers, database, tmp_path / "work", database_url=database_url, **public) as opened:
        yield opened


async def test_an_upload_names_its_storage_where_its_key_may(api: Api) -> None:
    status, record, _ = await api.upload(storage="shelf")
    assert (status, record["storage"]) == (202, "shelf")
    assert_problem(await api.upload(storage="vault"), 400, "unknown_storage")
    assert_problem(await api.upload(storage="cold", as_="admin"), 400, "unknown_storage")
    status, record, _ = await api.upload(storage="vault", as_="service")
    assert (status, record["storage"]) == (202, "vault")
    [event] = await api.rows("select message from outbox where video_id = $1", record["id"])
    assert '"storage": "vault"' in str(event["message"]) or event["message"]["data"]["storage"] == "vault"


async def test_a_private_upload_is_accepted_where_there_is_a_private_storage(api: Api) -> None:
    assert (await api.upload(visibility="private"))[0] == 202
    refused = await api.upload(visibility="private", storage="default", as_="admin")
    assert_problem(refused, 400, "private_not_possible")


async def test_an_admin_sets_the_storage_of_a_user(api: Api) -> None:
    path = "/api/users/alice/storage"
    assert (await api.call("GET", path, as_="admin"))[:2] == (200, {"storage": None})
    assert_problem(await api.call("PUT", path, as_="alice", json={"storage": "shelf"}), 403, "forbidden")
    unknown = await api.call("PUT", path, as_="admin", json={"storage": "cold"})
    assert_problem(unknown, 400, "unknown_storage")
    for name in ("vault", None):
        assert (await api.call("PUT", path, as_="admin", json={"storage": name}))[0] == 200
        assert (await api.call("GET", path, as_="admin"))[1] == {"storage": name}


async def test_a_video_that_is_in_a_public_storage_cannot_become_private(api: Api) -> None:
    video_id = await api.add_video()
    path, private = f"/api/videos/{video_id}", {"visibility": "private"}
    assert (await api.call("PATCH", path, json=private))[0] == 200, "nothing is stored yet"
    await api.call("PATCH", path, json={"visibility": "public"})
    async with api.database.transaction() as connection:
        bucket = api.client.app.on_startup and "videos"
        await videos.choose_storage(connection, video_id, StorageLocation("s3", bucket))
    assert_problem(await api.call("PATCH", path, json=private), 400, "private_not_possible")
    assert (await api.call("GET", path))[1]["visibility"] == "public"


async def test_the_doctor_examines_a_named_storage(api: Api) -> None:
    wanted = {"storage": "shelf"}
    status, report, _ = await api.call("POST", "/api/storage/doctor", as_="admin", json=wanted)
    assert (status, report["healthy"]) == (200, True)
    assert report["storage"].endswith("shelf")
    unknown = await api.call("POST", "/api/storage/doctor", as_="admin", json={"storage": "cold"})
    assert_problem(unknown, 400, "unknown_storage")
