"""One process of a service, with or without one of its guards, with its own proxy to the broker."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from tests.chaos.cluster.servers import REPO
from tests.chaos.faults.tcp_proxy import TcpProxy
from tests.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping

START_SECONDS = 120.0
LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class ServiceProcess:
    """A running service; `broker` is the proxy of its connections to RabbitMQ."""

    service: str
    url: str
    log: Path
    broker: TcpProxy
    process: asyncio.subprocess.Process
    scratch: Path | None

    @classmethod
    async def start(
        cls, service: str, env: Mapping[str, str], log: Path, *, guard: str | None, one_core: bool
    ) -> ServiceProcess:
        """Start a service, without `guard` if given; return when it is ready.

        With `one_core` it uses a single core and therefore encodes to different bytes.
        Raises RuntimeError with its last output when it exits, TimeoutError when it is too slow.
        """
        port, broker = free_port(), await _proxy(env["RABBITMQ_URL"])
        scratch = Path(env["WORK_DIR"]) if env.get("WORK") == "bucket" else None
        where = {"HTTP_PORT": str(port), "RABBITMQ_URL": _through(env["RABBITMQ_URL"], broker)}
        program = ["tests.chaos.ablation.unguarded", guard, service] if guard else [f"services.{service}"]
        bound = ["taskset", "-c", str(min(os.sched_getaffinity(0)))] if one_core else []
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(*bound, sys.executable, "-m", *program),
                cwd=REPO,
                env={**env, **where},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        actor = cls(service, f"http://127.0.0.1:{port}", log, broker, process, scratch)
        try:
            await actor._until_ready()
        except BaseException:
            await actor.kill()
            raise
        return actor

    def lose_broker(self) -> None:
        """Reset its connections to the broker, which redelivers its messages to another process."""
        self.broker.cut()

    def wake(self) -> None:
        """Continue the process where it stopped itself."""
        os.kill(self.process.pid, signal.SIGCONT)

    async def kill(self) -> None:
        """Kill it with SIGKILL, stopped or not; its scratch is lost, as with its node. Idempotent."""
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        if self.scratch:
            await asyncio.to_thread(shutil.rmtree, self.scratch, ignore_errors=True)
        await self.broker.close()

    async def _until_ready(self) -> None:
        async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as session:
            while not await self._is_ready(session):
                if self.process.returncode is not None:
                    last_words = self.log.read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"{self.service} ended with {self.process.returncode}: {last_words}")
                await asyncio.sleep(LOOK_SECONDS)

    async def _is_ready(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self.url}/readyz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False


async def _proxy(url: str) -> TcpProxy:
    parts = urlsplit(url)
    assert parts.hostname is not None
    return await TcpProxy.start(parts.hostname, parts.port or 5672)


def _through(url: str, proxy: TcpProxy) -> str:
    parts = urlsplit(url)
    credentials = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{credentials}@127.0.0.1:{proxy.port}"))
