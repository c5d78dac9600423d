"""RabbitMQ, Postgres and S3 of a private stack, which can be killed and restarted."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

REPO = Path(__file__).parents[3]
STOP_SECONDS = 25.0
# Variables of the caller's environment that would replace the private servers or change the services.
REPLACING = ("DATABASE_URL", "RABBITMQ_URL", "S3_ENDPOINT_URL", "WORK_DIR", "WORK", "TRANSCODERS")


@dataclass(frozen=True)
class Servers:
    """The servers of one stack directory."""

    directory: Path

    async def up(self) -> None:
        """Start stopped servers, and return when they answer. Raises RuntimeError with the output."""
        await self._local("up", "--servers-only")

    async def down(self) -> None:
        """Stop all servers and remove their data."""
        await self._local("down", "--wipe")

    @property
    def env(self) -> dict[str, str]:
        """Return the addresses by the names of the services' variables."""
        return dict(line.split("=", 1) for line in shlex.split((self.directory / "env").read_text()))

    def kill(self, part: str) -> None:
        """Kill a server with SIGKILL."""
        os.kill(self._running(part)["pid"], signal.SIGKILL)

    @contextmanager
    def frozen(self, part: str) -> Iterator[None]:
        """Stop a server and its children with SIGSTOP while the block runs."""
        server = psutil.Process(self._running(part)["pid"])
        family = [server, *server.children(recursive=True)]
        try:
            _signal(family, signal.SIGSTOP)
            yield
        finally:
            _signal(family, signal.SIGCONT)

    async def stop(self, part: str) -> None:
        """Stop a server cleanly, and wait for its end."""
        running = self._running(part)
        os.kill(running["pid"], running["stop_signal"])
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                while _is_alive(running["pid"]):
                    await asyncio.sleep(0.1)

    def _running(self, part: str) -> dict[str, Any]:
        return json.loads((self.directory / "state.json").read_text())["running"][part]

    async def _local(self, *words: str) -> None:
        given = {name: value for name, value in os.environ.items() if name not in REPLACING}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "devstack", *words, "--dir", str(self.directory)),
            cwd=REPO,
            env=given,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C must reach only the run, which stops the servers itself
        )
        said, _ = await process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"devstack {words[0]} failed:\n{said.decode(errors='replace')[-3000:]}")


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _is_alive(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] not in "ZX"
