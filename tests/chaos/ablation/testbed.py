"""The testbed of a scenario: services in a fresh environment, a clip, and failpoints."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aio_pika
import aiohttp
import asyncpg

from tests.chaos.ablation.platform import submit
from tests.chaos.ablation.process import ServiceProcess
from tests.chaos.cluster.servers import REPLACING, REPO
from tests.chaos.failpoints import Points
from tests.chaos.faults.s3_proxy import S3Proxy
from tests.chaos.invariants import Accepted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

    from tests.chaos.ablation.clip import Clip
    from tests.chaos.invariants import Addresses

STEP_SECONDS = 120.0  # a step takes one or two on an idle machine
LOOK_SECONDS = 0.02
USER = "controls"
SETTINGS = {
    "STORAGE_TYPE": "s3",
    "ENCODER": "libx264",
    "HLS_SEGMENT_SECONDS": "2",
    "CHUNK_SECONDS": "2",
    "LEASE_SECONDS": "2",
    "RETRY_SECONDS": "0.25",
    "DELETE_AGAIN_SECONDS": "0",
    "RECONCILE_SECONDS": "86400",  # it would repair the damage
    "HTTP_HOST": "127.0.0.1",
    "LOG_FORMAT": "json",
}


@dataclass
class Testbed:
    """Runs services without `guard` (None: with all guards) and records what they accept."""

    addresses: Addresses
    clip: Clip
    root: Path
    guard: str | None
    settings: Mapping[str, str]
    s3: S3Proxy
    actors: list[ServiceProcess] = field(default_factory=list)
    videos: dict[str, Accepted] = field(default_factory=dict)

    async def start(self, *services: str, one_core: bool = False) -> list[ServiceProcess]:
        """Start services side by side; return when all of them are ready."""
        starting = []
        async with asyncio.TaskGroup() as group:  # a failure stops the others
            for number, service in enumerate(services, start=len(self.actors)):
                name = f"{number}-{service}"
                env, log = self._env(name), self.root / f"{name}.log"
                start = ServiceProcess.start(service, env, log, guard=self.guard, one_core=one_core)
                starting.append(group.create_task(start))
        started = [task.result() for task in starting]
        self.actors += started
        return started

    def arm(self, point: str) -> None:
        """Make the next process that reaches `point` stop there."""
        self._points.arm(point)

    async def stopped(self, point: str) -> ServiceProcess:
        """Wait for a process to stop at `point`, and return it. Raises TimeoutError."""

        async def who() -> ServiceProcess | None:
            pids = {pid for where, pid in self._points.take_parked() if where == point}
            return next((actor for actor in self.actors if actor.process.pid in pids), None)

        return await self._until(f"no process reached {point}", who)

    async def resume_until(self, zombie: ServiceProcess, point: str) -> None:
        """Continue a stopped process, and return when it has reached `point`."""
        self.arm(point)
        zombie.wake()
        assert await self.stopped(point) is zombie
        zombie.wake()

    async def submit(self) -> Accepted:
        """Submit the clip as a platform does, by an event that the broker confirms."""
        video_id = str(uuid4())
        await submit(self.addresses.rabbitmq_url, video_id, USER, await self._put_source(f"{video_id}.mp4"))
        return self.accepted(video_id)

    async def _put_source(self, name: str) -> str:
        """Put the clip where the services may read it; return its URI."""
        if bucket := self.addresses.s3_work_bucket:  # but not below the prefix of the services
            async with self.addresses.s3() as s3:
                await s3.put_object(Bucket=bucket, Key=f"platform/{name}", Body=self.clip.path.read_bytes())
            return f"s3://{bucket}/platform/{name}"
        place = self.addresses.work_dir / "platform" / name
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(self.clip.path, place)
        return place.as_uri()

    async def upload(self, ingest: ServiceProcess, key: str) -> Accepted:
        """Upload the clip to an ingest, which must answer 202."""
        form = aiohttp.FormData()
        form.add_field("userId", USER)
        form.add_field("file", self.clip.path.read_bytes(), filename="clip.mp4")
        record = await self.call(ingest, key, "POST", "/api/videos/upload", expect=202, data=form)
        return self.accepted(record["id"])

    def accepted(self, video_id: str, *outcomes: str) -> Accepted:
        """Record that a video was accepted and how it may end; default `ready`."""
        ends = frozenset(outcomes or ("ready",))
        self.videos[video_id] = Accepted(video_id, ends, frames=self.clip.frames, retries=0)
        return self.videos[video_id]

    async def call(
        self, ingest: ServiceProcess, key: str, method: str, path: str, *, expect: int, **options: Any
    ) -> Any:
        """Make one HTTP request; return the body of the answer."""
        headers = {"Authorization": f"Bearer {key}"}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, ingest.url + path, headers=headers, **options) as answer,
        ):
            assert answer.status == expect, await answer.text()
            return await answer.json() if expect != 204 else None

    async def admin_key(self) -> str:
        """Create an admin key as an operator does."""
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "services.ingest",
                "create-key",
                "--scope",
                "admin",
                "--name",
                "controls",
            ),
            cwd=REPO,
            env=self._env("keys"),
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0
        return said.decode().split()[-1]

    async def until(self, video: Accepted, condition: str) -> None:
        """Wait until a video's row meets `condition`, in SQL. Raises TimeoutError."""
        query = f"select {condition} from videos where video_id = $1"
        connection = await asyncpg.connect(self.addresses.database_url)
        try:
            await self._until(f"timed out: {condition}", lambda: connection.fetchval(query, video.video_id))
        finally:
            await connection.close()

    async def swept(self, uploader: ServiceProcess) -> None:
        """Wait for a complete sweep: the second to finish, as the first may already have been running."""
        async with aiohttp.ClientSession() as session:

            async def last() -> str:
                async with session.get(f"{uploader.url}/metrics") as answer:
                    lines = (await answer.text()).splitlines()
                return next(line for line in lines if line.startswith("vod_sweep_last_timestamp_seconds "))

            for _ in range(2):
                before = await last()

                async def has_ended(before: str = before) -> bool:
                    return await last() != before

                await self._until("no sweep finished", has_ended)

    async def purge(self, name: str) -> None:
        """Purge a queue as soon as it holds a message."""
        async with await aio_pika.connect(self.addresses.rabbitmq_url) as connection:
            channel = await connection.channel()

            async def waits() -> bool:
                queue = await channel.declare_queue(name, passive=True)
                return bool(queue.declaration_result.message_count)

            await self._until(f"{name} is empty", waits)
            await (await channel.get_queue(name)).purge()

    @property
    def _points(self) -> Points:
        return Points(self.root)

    async def _until(self, otherwise: str, look: Callable[[], Awaitable[Any]]) -> Any:
        try:
            async with asyncio.timeout(STEP_SECONDS):
                while not (found := await look()):
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            raise TimeoutError(otherwise) from None
        return found

    def _env(self, name: str) -> dict[str, str]:
        """Return the variables of a process; with a work bucket it has a scratch of that name."""
        machine = {name: value for name, value in os.environ.items() if name not in REPLACING}
        places = {
            name.upper(): str(getattr(self.addresses, name)) for name in self.addresses.__dataclass_fields__
        }
        ours = {"S3_ENDPOINT_URL": self.s3.url, "CRASH_POINTS_DIR": str(self.root)}
        if self.addresses.s3_work_bucket:
            scratch = self.addresses.work_dir / name
            scratch.mkdir(exist_ok=True)
            ours |= {"WORK": "bucket", "WORK_DIR": str(scratch)}
        return {**machine, **places, **SETTINGS, **self.settings, **ours}


@asynccontextmanager
async def open_testbed(
    addresses: Addresses, clip: Clip, root: Path, guard: str | None, settings: Mapping[str, str]
) -> AsyncIterator[Testbed]:
    """Yield a testbed without processes; those started on it are killed at the end."""
    testbed = Testbed(addresses, clip, root, guard, settings, await S3Proxy.start(addresses.s3_endpoint_url))
    try:
        yield testbed
    finally:
        await asyncio.gather(*(actor.kill() for actor in testbed.actors))
        await testbed.s3.close()
