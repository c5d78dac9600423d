"""The API of ingest in this process, on real servers, with a key for each kind of caller."""

from __future__ import annotations

import io
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aiohttp
import pytest
from aiohttp.test_utils import TestClient

from services.ingest.auth.api_keys import create_key
from services.ingest.http.resources import OPENAPI
from services.ingest.main import UPLOAD_PACE, create_app
from services.ingest.models import NewKey
from shared import videos
from shared.contracts.events import Source, VideoUploaded
from shared.errors import PipelineError
from shared.messaging.outbox import Outbox
from tests.service_server import ServiceServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from uuid import UUID

    from aiohttp import web

    from services.ingest.uploads.pace import UploadPace
    from shared.database.pool import Database

MAX_UPLOAD_BYTES = 2_000_000


@dataclass
class Api:
    """A client of the API; `as_` picks whose key is sent."""

    client: TestClient[web.Request, web.Application]
    database: Database
    work_dir: Path
    keys: dict[str, str]

    @property
    def openapi(self) -> str:
        return self.client.app[OPENAPI]

    def headers(self, as_: str | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[as_]}"} if as_ else {}

    async def call(
        self, method: str, path: str, *, as_: str | None = "alice", **options: Any
    ) -> tuple[int, Any, Any]:
        """Return status, body (parsed if it is JSON, else text) and headers."""
        headers = self.headers(as_) | options.pop("headers", {})
        async with self.client.request(method, path, headers=headers, **options) as response:
            is_json = "json" in response.content_type
            return response.status, await (response.json() if is_json else response.text()), response.headers

    async def upload(
        self, content: Any = b"film", *, as_: str | None = "alice", filename: str = "film.mp4", **fields: str
    ) -> tuple[int, Any, Any]:
        """Upload a file with fields before it."""
        form = aiohttp.FormData(quote_fields=False)
        for name, value in fields.items():
            form.add_field(name, value)
        file = io.BytesIO(content) if isinstance(content, bytes) else content
        form.add_field("file", file, filename=filename)
        return await self.call("POST", "/api/videos/upload", as_=as_, data=form)

    async def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Ask the database."""
        async with self.database.transaction() as connection:
            return [dict(row) for row in await connection.fetch(query, *values)]

    async def add_video(self, user_id: str = "alice") -> UUID:
        """Create a video as a platform's event would."""
        event = VideoUploaded(video_id=uuid4(), user_id=user_id, source=Source(uri="https://example.org/a"))
        async with self.database.transaction() as connection:
            await videos.accept(connection, event)
        return event.video_id

    async def fail(self, video_id: UUID) -> None:
        """Make a video fail as the transcoder would."""
        error = PipelineError("broken")
        await videos.fail(Outbox(self.database, "/test"), video_id, "encode", error, retryable=True, run=1)

    def files(self) -> list[str]:
        """List the files under WORK_DIR except the marker of the volume."""
        paths = [path for path in self.work_dir.rglob("*") if path.name != "vod-volume.json"]
        return sorted(str(path.relative_to(self.work_dir)) for path in paths if path.is_file())


def assert_problem(result: tuple[int, Any, Any], status: int, reason: str) -> None:
    """Check that an answer is problem details with this reason."""
    answered, body, headers = result
    assert (answered, body["status"], body["reason"]) == (status, status, reason), body
    assert headers["Content-Type"].startswith("application/problem+json")
    assert headers["X-Request-Id"]
    assert body["detail"]


@asynccontextmanager
async def serving(
    servers: Any, database: Database, work_dir: Path, *, pace: UploadPace = UPLOAD_PACE, **changes: Any
) -> AsyncIterator[Api]:
    """Run the API with changed settings."""
    values = {"work_dir": work_dir, "max_upload_bytes": MAX_UPLOAD_BYTES}
    settings = servers.settings(**values | changes)
    keys = {}
    async with database.transaction() as connection:
        for name, scope in (("alice", "user"), ("bob", "user"), ("service", "service"), ("admin", "admin")):
            user_id = name if scope == "user" else None
            new = NewKey.model_validate({"name": name, "scope": scope, "userId": user_id})
            keys[name] = (await create_key(connection, new)).key
    server = ServiceServer(create_app(settings, pace=pace), host="127.0.0.1")
    async with TestClient(server) as client:
        yield Api(client, database, work_dir, keys)


@pytest.fixture
def pace() -> UploadPace:
    """How fast uploads have to arrive; tests override it."""
    return UPLOAD_PACE


@pytest.fixture
async def api(
    servers: Any, database: Database, database_url: str, tmp_path: Path, pace: UploadPace
) -> AsyncIterator[Api]:
    async with serving(servers, database, tmp_path, pace=pace, database_url=database_url) as opened:
        yield opened
