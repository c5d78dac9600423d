"""The system as its users see it: HTTP, AMQP, S3 and files. Imports no product code."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aio_pika
import aiohttp
import m3u8
import pytest
from aiobotocore.session import get_session

from tests.leaks import leaks_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REPO = Path(__file__).parents[2]
IN_BUCKET = os.environ.get("WORK") == "bucket"  # of all stacks that do not choose themselves
needs_volume = pytest.mark.skipif(IN_BUCKET, reason="with WORK=bucket the services share no directory")
CONVERSION_SECONDS = 120.0
EVENT_SECONDS = 30.0


@dataclass
class System:
    """A running stack in its own directory, of the programs in `checkout`."""

    directory: Path
    given: dict[str, str] = field(default_factory=dict)
    python: Path = Path(sys.executable)
    checkout: Path = REPO

    def up(self, **variables: str) -> None:
        """Start what is not running; `variables` reach the services."""
        self.given |= variables
        self._local("up")

    def down(self) -> None:
        """Stop everything. No secret may be in the logs that are left."""
        self._local("down")
        assert leaks_in(self.directory) == []

    def _local(self, command: str) -> None:
        run = [str(self.python), "-m", "devstack", command, "--dir", str(self.directory)]
        done = subprocess.run(
            run, cwd=self.checkout, env=os.environ | self.given, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def env(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in shlex.split((self.directory / "env").read_text()))

    @property
    def work(self) -> Path:
        return Path(self.env["WORK_DIR"])

    @property
    def _running(self) -> dict[str, Any]:
        return json.loads((self.directory / "state.json").read_text())["running"]

    def runs(self, part: str) -> bool:
        """Tell whether a part is one of this stack's own processes."""
        return part in self._running

    def processes(self) -> dict[str, int]:
        """Return the process ids of the stack's own parts by name."""
        return {part: running["pid"] for part, running in self._running.items()}

    def kill(self, part: str) -> None:
        """End one process of the stack with SIGKILL."""
        os.kill(self._running[part]["pid"], signal.SIGKILL)

    def log(self, part: str) -> str:
        return (self.directory / "logs" / f"{part}.log").read_text()

    @asynccontextmanager
    async def client(self, key: str | None = None) -> AsyncIterator[Client]:
        """Open the API with a key, the admin's by default."""
        async with aiohttp.ClientSession() as session:
            yield Client(session, self.env, key or self.env["ADMIN_API_KEY"])

    @asynccontextmanager
    async def s3(self) -> AsyncIterator[Any]:
        env = self.env
        async with get_session().create_client(
            "s3",
            endpoint_url=env["S3_ENDPOINT_URL"],
            region_name=env["S3_REGION"],
            aws_access_key_id=env["S3_ACCESS_KEY_ID"],
            aws_secret_access_key=env["S3_SECRET_ACCESS_KEY"],
        ) as client:
            yield client

    async def bucket(self, prefix: str) -> dict[str, int]:
        """Return the sizes of the objects below `prefix`, by the rest of their keys."""
        async with self.s3() as client:
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=self.env["S3_BUCKET"], Prefix=prefix + "/"
            )
            return {
                item["Key"].removeprefix(prefix + "/"): item["Size"]
                async for page in pages
                for item in page.get("Contents", [])
            }

    async def work_files(self, name: str) -> dict[str, int]:
        """Return the sizes of what is handed over below a name, by the rest of their names."""
        if IN_BUCKET:
            return await self.bucket(f"work/{name}")
        top = self.work / name
        found = [path for path in top.rglob("*") if path.is_file()]
        return {path.relative_to(top).as_posix(): path.stat().st_size for path in found}

    async def remove_work(self, name: str) -> None:
        """Remove what is handed over below a name, as a disk that is lost does."""
        if not IN_BUCKET:
            shutil.rmtree(self.work / name)
            return
        async with self.s3() as client:
            for rest in await self.work_files(name):
                await client.delete_object(Bucket=self.env["S3_BUCKET"], Key=f"work/{name}/{rest}")

    async def until_gone(self, video_id: str) -> None:
        """Wait until nothing is left of a video in the workspace, nor in any scratch."""
        async with asyncio.timeout(30):
            while any(files and video_id in path for path, _, files in os.walk(self.directory)) or any(
                [await self.work_files(f"{place}/{video_id}") for place in ("chunks", "originals")]
            ):
                await asyncio.sleep(0.2)

    async def purge(self) -> int:
        """Purge every queue, as an operator or a lost disk would; return how many messages were lost."""
        connection = await aio_pika.connect(self.env["RABBITMQ_URL"])
        try:
            channel = await connection.channel()
            names = ("plan", "first", "bulk")
            queues = [f"transcoder.{name}" for name in names] + [
                f"uploader.{name}" for name in ("store", "segments", "delete")
            ]
            done = [await (await channel.get_queue(name)).purge() for name in queues]
            return sum(each.message_count or 0 for each in done)
        finally:
            await connection.close()

    @asynccontextmanager
    async def events(self) -> AsyncIterator[Events]:
        """Listen to everything on the events exchange, as a platform would."""
        connection = await aio_pika.connect(self.env["RABBITMQ_URL"])
        try:
            channel = await connection.channel()
            exchange = await channel.declare_exchange("hls.events", "topic", durable=True)
            queue = await channel.declare_queue(exclusive=True)
            await queue.bind(exchange, "#")
            yield Events(queue, exchange)
        finally:
            await connection.close()


@dataclass
class Events:
    """The messages of the broker, and a way to publish."""

    queue: Any
    exchange: Any
    seen: list[dict[str, Any]] = field(default_factory=list)

    async def drain(self) -> list[dict[str, Any]]:
        while message := await self.queue.get(fail=False, no_ack=True):
            assert message.content_type == "application/cloudevents+json"
            assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
            self.seen.append(json.loads(message.body))
        return self.seen

    async def of(self, video_id: str, kind: str, *, at_least: int = 0) -> list[dict[str, Any]]:
        """Return the data of the events of one type about one video.

        Waits for `at_least` of them: an event follows the record that it is about.
        """
        async with asyncio.timeout(EVENT_SECONDS):
            while True:
                await self.drain()
                chosen = [event["data"] for event in self.seen if event["type"] == kind]
                found = [data for data in chosen if data["videoId"] == video_id]
                if len(found) >= at_least:
                    return found
                await asyncio.sleep(0.1)

    async def upload(self, uri: str, **data: Any) -> str:
        """Publish video.uploaded as an internal platform; return the id of the video."""
        video_id = data.pop("videoId", str(uuid4()))
        event = {
            "specversion": "1.0",
            "id": str(uuid4()),
            "source": "/platform",
            "type": "video.uploaded",
            "data": {"videoId": video_id, "userId": "platform", "source": {"uri": uri}} | data,
        }
        await self.publish(json.dumps(event).encode())
        return video_id

    async def publish(self, body: bytes) -> None:
        message = aio_pika.Message(body, content_type="application/cloudevents+json", delivery_mode=2)
        await self.exchange.publish(message, "video.uploaded")


@dataclass
class Client:
    """The HTTP API with one key."""

    session: aiohttp.ClientSession
    env: dict[str, str]
    key: str

    async def call(self, method: str, path: str, expect: int = 200, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.key}"}
        async with self.session.request(
            method, self.env["INGEST_URL"] + path, headers=headers, **options
        ) as answer:
            text = await answer.text()
            assert answer.status == expect, (answer.status, text)
            return json.loads(text) if text else None

    async def upload(self, path: Path, expect: int = 202, **fields: str) -> Any:
        form = aiohttp.FormData()
        for name, value in fields.items():
            form.add_field(name, value)
        with path.open("rb") as file:
            form.add_field("file", file, filename=path.name)
            return await self.call("POST", "/api/videos/upload", expect, data=form)

    async def record(self, video_id: str) -> Any:
        return await self.call("GET", f"/api/videos/{video_id}")

    async def until(self, video_id: str, condition: Any, seconds: float = CONVERSION_SECONDS) -> Any:
        """Return the record once `condition(record)` holds; a failed video ends the wait early."""
        async with asyncio.timeout(seconds):
            while True:
                found = await self._record_or_none(video_id)
                if found and condition(found):
                    return found
                assert not found or found["status"] != "failed", found["error"]
                await asyncio.sleep(0.1)

    async def _record_or_none(self, video_id: str) -> Any:
        headers = {"Authorization": f"Bearer {self.key}"}
        try:
            async with self.session.get(
                f"{self.env['INGEST_URL']}/api/videos/{video_id}", headers=headers
            ) as answer:
                return await answer.json() if answer.status == 200 else None
        except aiohttp.ClientError:
            return None  # ingest may just be starting again

    async def ready(self, video_id: str, seconds: float = CONVERSION_SECONDS) -> Any:
        return await self.until(video_id, lambda record: record["status"] == "ready", seconds)

    async def failed(self, video_id: str) -> Any:
        record = await self.until(video_id, lambda record: record["status"] == "failed")
        assert set(record["error"]) == {"stage", "reason", "message", "retryable"}
        return record["error"]

    async def fetch(self, url: str, expect: int = 200) -> bytes:
        async with self.session.get(url) as answer:
            body = await answer.read()
            assert answer.status == expect, (url, answer.status, body[:300])
            return body

    async def play(self, record: Any, work: Path) -> dict[str, Played]:
        """Fetch every playlist and segment through the playback URL and count what is in them."""
        master = m3u8.loads((await self.fetch(record["playlistUrl"])).decode(), uri=record["playlistUrl"])
        return {
            variant.uri.split("/")[0]: await self._play(variant.absolute_uri, work)
            for variant in master.playlists
        }

    async def _play(self, url: str, work: Path) -> Played:
        playlist = m3u8.loads((await self.fetch(url)).decode(), uri=url)
        assert playlist.is_endlist
        segments = [await self.fetch(segment.absolute_uri) for segment in playlist.segments]
        joined = work / f"{uuid4()}.ts"
        joined.write_bytes(b"".join(segments))
        names = [segment.uri for segment in playlist.segments]
        assert names == [f"segment_{number:03d}.ts" for number in range(1, len(names) + 1)]
        return Played(names, *count_frames(joined))


@dataclass(frozen=True)
class Played:
    """What one rendition holds when all its segments are joined."""

    segments: list[str]
    frames: int
    width: int
    height: int
    even_steps: bool


def count_frames(path: Path) -> tuple[int, int, int, bool]:
    """Decode a file; return frames, width, height, and whether all frames are equally far apart."""
    run = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-of", "json"]
    run += ["-show_entries", "stream=width,height:frame=pts", str(path)]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    times = [int(frame["pts"]) for frame in found["frames"]]
    steps = {after - before for before, after in zip(times, times[1:], strict=False)}
    stream = found["streams"][0]
    even = max(steps, default=0) - min(steps, default=0) <= 2
    return len(times), stream["width"], stream["height"], even


def make_clip(
    path: Path, *, seconds: float, size: str = "640x360", rate: int = 25, sound: bool = True
) -> Path:
    """Write an MP4 with a moving picture and a tone."""
    run = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}"]
    if sound:
        run += ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]
    run += ["-t", str(seconds), "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
    run += ["-c:a", "aac", str(path)] if sound else [str(path)]
    subprocess.run(run, check=True)
    return path
