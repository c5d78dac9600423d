"""Streamer, edge and ingest as processes, private videos in every state, and unauthorized requests."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from aiohttp.test_utils import unused_port

from devstack.edge import command, configuration
from services.ingest.auth.api_keys import create_key
from services.ingest.models import NewKey
from shared import videos
from shared.contracts.events import Rendition, Source, VideoStored, VideoUploaded
from shared.database.pool import open_database
from shared.playback import key_store
from shared.storage import open_storage
from tests.integration.access.forgeries import PLATFORM_KEYS
from tests.integration.test_streamer import CODECS, PRESENTATION, Film

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

    from shared.database.pool import Database
    from shared.playback.models import PlaybackKey
    from shared.settings import Settings
    from shared.storage import Storage

START_SECONDS = 60
STRANGER = "127.0.0.2"  # no trusted proxy, unlike the edge
EDGES = {"edge-local": "local", "edge-s3": "s3"}  # with the rules for segments on local disk and in a bucket
DOORS = ("streamer", *EDGES)  # where players come in
TITLE = "Unreleased trailer"
OWNER = "alice"
GENERATION = 1
ENDED = "expired"
CHANGES_BY_REQUEST = ("Date", "X-Request-Id", "Content-Length")


class PrivateFilm(Film):
    """A private video whose tokens were revoked once."""

    async def accept(self) -> None:
        event = VideoUploaded(
            video_id=self.video_id, user_id=OWNER, source=Source(uri="file:a.mp4"), visibility="private"
        )
        async with self.outbox.transaction() as connection:
            await videos.accept(connection, event)
            await videos.change(connection, self.video_id, videos.Change(title=TITLE, sets_title=True))
            assert await videos.revoke_tokens(connection, self.video_id) == GENERATION

    async def finish(self) -> None:
        names = [name for name, _, _ in PRESENTATION.renditions]
        lists = [f"{name}/{file}" for name in names for file in ("playlist.m3u8", "iframes.m3u8")]
        for file in ("master.m3u8", "thumbnail.jpg", *lists):
            await self.storage.put_bytes(f"{self.prefix}/{file}", b"#EXTM3U\n# as stored\n")
        stored = VideoStored(
            video_id=self.video_id,
            user_id=OWNER,
            storage_type=self.storage.kind,
            s3_bucket=self.storage.bucket,
            s3_key=self.prefix,
            s3_public_url=self.storage.public_base_url,
            playlist_url="",
            thumbnail_url="",
            duration_seconds=30.0,
            renditions=[
                Rendition(
                    name=name,
                    width=width,
                    height=height,
                    bandwidth=1,
                    average_bandwidth=1,
                    codecs=CODECS[name],
                    frame_rate=25.0,
                )
                for name, width, height in PRESENTATION.renditions
            ],
            bytes=1,
        )
        async with self.outbox.transaction() as connection:
            assert await videos.mark_ready(connection, stored, run=1)


@dataclass(frozen=True)
class Answer:
    """An answer, with its headers as they came."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def reason(self) -> str | None:
        """The stable reason of a problem; None where the answer is something else."""
        is_problem = self.headers.get("Content-Type", "").startswith("application/problem+json")
        return json.loads(self.body)["reason"] if is_problem and self.body else None

    def without(self, *words: str) -> Answer:
        """Return the comparable parts of an answer.

        Without values that differ per request, and without `words`.
        """
        headers = {name: value for name, value in self.headers.items() if name not in CHANGES_BY_REQUEST}
        text = json.dumps(headers) + self.body
        for word in words:
            text = text.replace(word, "-")
        return Answer(self.status, {}, text)


@dataclass
class World:
    """The public addresses, and the owner's secrets."""

    ports: dict[str, int]
    logs: dict[str, Path]
    ids: dict[str, UUID] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    signing: PlaybackKey = None  # type: ignore[assignment] # set by `fill`
    secrets: set[str] = field(default_factory=set)

    def ask(self, service: str, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send a request with its path as it is given."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.ports[service], timeout=20, source_address=(STRANGER, 0)
        )
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            data = _bytes(body)
            for name, value in (sent | {"Content-Length": str(len(data))}).items():
                connection.putheader(name, value)
            connection.endheaders(data)
            got = connection.getresponse()
            return Answer(got.status, dict(got.getheaders()), got.read().decode(errors="replace"))
        finally:
            connection.close()

    def said(self, service: str) -> str:
        """Return what a service has logged."""
        return self.logs[service].read_text()


def _bytes(body: Any) -> bytes:
    if body is None:
        return b""
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


@contextmanager
def running(settings: Settings, folder: Path) -> Iterator[World]:
    """Run both services, and two edges in front of the streamer, on a filled database."""
    world = World({}, {})
    programs = []
    try:
        for service in ("streamer", "ingest", *EDGES):
            world.ports[service], world.logs[service] = unused_port(), folder / f"{service}.log"
            start = _start_edge if service in EDGES else _start
            programs.append(start(settings, service, world))
        for service in world.ports:
            _wait(world, service)
        yield world
    finally:
        for program in programs:
            program.terminate()
        for program in programs:
            program.wait(30)


def _start(settings: Settings, service: str, world: World) -> subprocess.Popen[bytes]:
    env = os.environ | {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "RABBITMQ_URL": settings.rabbitmq_url.get_secret_value(),
        "WORK_DIR": str(settings.work_dir),
        "STORAGE_TYPE": "local",
        "WORK": "volume",
        "HTTP_HOST": "127.0.0.1",
        "HTTP_PORT": str(world.ports[service]),
        "LOG_LEVEL": "DEBUG",
        "DRAIN_SECONDS": "1",
        "EDGE": "nginx",
        "TRUSTED_PROXIES": "127.0.0.1",
    }
    with world.logs[service].open("wb") as log:
        return subprocess.Popen(
            (sys.executable, "-m", f"services.{service}"), env=env, stdout=log, stderr=subprocess.STDOUT
        )


def _start_edge(settings: Settings, edge: str, world: World) -> subprocess.Popen[bytes]:
    home, log = settings.work_dir / edge, world.logs[edge]
    home.mkdir()
    values = {"STORAGE_TYPE": EDGES[edge], "WORK_DIR": str(settings.work_dir)}
    for file in configuration(home, values, edge=world.ports[edge], streamer=world.ports["streamer"]):
        file.path.write_text(file.text)
    with log.open("wb") as out:
        return subprocess.Popen(command(home), cwd=home, stdout=out, stderr=subprocess.STDOUT)


def _wait(world: World, service: str) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        try:
            if world.ask(service, "GET", "/readyz").status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"{service} did not start: {world.said(service)}")


async def fill(world: World, settings: Settings) -> None:
    """Make private videos (ready, growing, deleted, and one that never existed) and keys of each scope."""
    url = settings.database_url.get_secret_value()
    async with open_database(url) as database, open_storage(settings) as storage:
        for state in ("ready", "other", "growing", "deleted"):
            world.ids[state] = await _video(database, storage, state)
        world.ids["unknown"] = uuid4()
        async with database.transaction() as connection:
            for kid, alg, pem in PLATFORM_KEYS:
                assert await key_store.register(connection, kid, alg, pem)
            world.signing = await key_store.signing_key(connection)
            for name, scope in ((OWNER, "user"), ("bob", "user"), (ENDED, "user"), ("admin", "admin")):
                user_id = name if scope == "user" else None
                new = NewKey.model_validate({"name": name, "scope": scope, "userId": user_id})
                world.keys[name] = (await create_key(connection, new)).key
            await connection.execute("update api_keys set expires_at = now() where name = $1", ENDED)
    world.secrets |= {world.signing.material, *world.keys.values()}


async def _video(database: Database, storage: Storage, state: str) -> UUID:
    film = PrivateFilm(database, storage)
    await film.accept()
    await film.plan()
    await film.store(0)
    if state != "growing":
        await film.store(1)
        await film.finish()
    if state == "deleted":
        await film.delete()
    return film.video_id
