"""The API of ingest on Postgres in memory and a work volume on disk, with a key for each kind of caller."""

from __future__ import annotations

import asyncio
import io
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.test_utils import TestClient

from services.ingest import main
from services.ingest.auth.api_keys import create_key
from services.ingest.http.resources import DATABASE, FEED, OUTBOX
from services.ingest.models import NewKey
from services.ingest.progress.poller import Feed
from services.ingest.settings import IngestSettings
from services.ingest.uploads.pace import UploadPace
from shared.http.server import running
from shared.messaging.outbox import Outbox
from shared.service.work_volume import work_volume_context
from shared.service.workspace import workspace_context
from tests.service_server import ServiceServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from shared.workspace.layout import WorkDir
    from tests.memory_database import MemoryPostgres

PACE = UploadPace(stall_seconds=60.0, write_bytes=1000, patience_seconds=0.0, pause_seconds=0.0)


@dataclass
class Ticks:
    """A stopped clock: sleepers wake up when a test says so."""

    _sleepers: list[asyncio.Event] = field(default_factory=list)

    async def sleep(self, _seconds: float) -> None:
        self._sleepers.append(waking := asyncio.Event())
        await waking.wait()

    async def tick(self) -> None:
        """Wake all sleepers, and wait until all sleep again."""
        async with asyncio.timeout(10):
            while not self._sleepers:
                await asyncio.sleep(0)
            sleepers, self._sleepers = self._sleepers, []
            for waking in sleepers:
                waking.set()
            while len(self._sleepers) < len(sleepers):
                await asyncio.sleep(0)


@dataclass
class Api:
    """A client of the API; `as_` picks whose key is sent."""

    client: TestClient[web.Request, web.Application]
    postgres: MemoryPostgres
    work: WorkDir
    keys: dict[str, str]
    ticks: Ticks

    def headers(self, as_: str | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[as_]}"} if as_ else {}

    async def call(
        self, method: str, path: str, *, as_: str | None = "alice", **options: Any
    ) -> tuple[int, Any]:
        """Return status and body: parsed JSON, or text."""
        headers = self.headers(as_) | options.pop("headers", {})
        async with self.client.request(method, path, headers=headers, **options) as response:
            is_json = "json" in response.content_type
            return response.status, await (response.json() if is_json else response.text())

    async def upload(self, content: Any = b"film", *, as_: str = "alice", **fields: str) -> tuple[int, Any]:
        """Upload a file with fields before it."""
        form = aiohttp.FormData(quote_fields=False)
        for name, value in fields.items():
            form.add_field(name, value)
        form.add_field("file", io.BytesIO(content), filename="film.mp4")
        return await self.call("POST", "/api/videos/upload", as_=as_, data=form)

    def files(self) -> list[str]:
        """List the files under WORK_DIR except the marker of the volume."""
        paths = [path for path in self.work.root.rglob("*") if path.name != "vod-volume.json"]
        return sorted(str(path.relative_to(self.work.root)) for path in paths if path.is_file())

    def nothing_is_left(self) -> None:
        """Check that an upload that failed has left nothing."""
        assert self.files() == []
        assert list((self.work.root / "originals").iterdir()) == []
        assert self.postgres.rows("videos") == self.postgres.rows("outbox") == []


def assert_problem(result: tuple[int, Any], status: int, reason: str) -> None:
    """Check that an answer is problem details with this reason."""
    answered, body = result
    assert (answered, body["status"], body["reason"]) == (status, status, reason), body
    assert body["detail"]


@asynccontextmanager
async def serving(
    postgres: MemoryPostgres, work: WorkDir, *, pace: UploadPace = PACE, **settings: Any
) -> AsyncIterator[Api]:
    """Run the API of ingest."""
    database, ticks, keys = postgres.database, Ticks(), {}
    async with database.transaction() as connection:
        for name, scope in (("alice", "user"), ("bob", "user"), ("service", "service"), ("admin", "admin")):
            user_id = name if scope == "user" else None
            new = NewKey.model_validate({"name": name, "scope": scope, "userId": user_id})
            keys[name] = (await create_key(connection, new)).key
    urls = {"database_url": "postgresql://memory", "rabbitmq_url": "amqp://memory"}
    made = IngestSettings(**urls | {"work_dir": work.root, "disk_reserve_bytes": 0, **settings})
    app = main.create_app(made, pace=pace)

    async def in_memory(app: web.Application) -> AsyncIterator[None]:
        app[DATABASE], app[OUTBOX] = database, Outbox(database, "/ingest")
        app[FEED] = feed = Feed(database, sleep=ticks.sleep)
        async with running(app, feed.run(), "feed"):
            yield

    app.cleanup_ctx[1:] = [workspace_context(made), main._uploads, in_memory, work_volume_context(made)]
    async with TestClient(ServiceServer(app, host="127.0.0.1")) as client:
        yield Api(client, postgres, work, keys, ticks)
