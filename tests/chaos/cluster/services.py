"""The services as in a cluster: several of each, restarted when they die."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp

from tests.chaos.cluster.servers import REPO
from tests.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SERVICES = ("ingest", "transcoder", "uploader", "streamer")
RESTART_SECONDS = 0.1
RESTART_AFTER_FAILURE_SECONDS = 1.0
END_SECONDS = 12.0
ASK_SECONDS = 3.0


@dataclass
class Member:
    """One member of the fleet; its process changes, its port stays."""

    name: str
    service: str
    port: int
    log: Path
    process: asyncio.subprocess.Process | None = None
    paused: bool = False
    spared: bool = False  # neither killed nor paused
    started_at: float = 0.0

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass
class Fleet:
    """Runs the services; `deaths` are exits that the run did not cause.

    With `scratches` each member has a directory there; a kill removes it, as the loss of a node does.
    """

    env: Mapping[str, str]
    logs: Path
    scratches: Path | None = None
    members: list[Member] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)
    _keepers: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _killed: set[int] = field(default_factory=set)
    _ending: bool = False

    def grow(self, counts: Mapping[str, int]) -> None:
        """Start services up to the given number of each."""
        for service, count in counts.items():
            there = len(self.of(service))
            for number in range(there + 1, count + 1):
                name = f"{service}-{number}"
                member = Member(name, service, free_port(), self.logs / f"{name}.log")
                self.members.append(member)
                self._keepers[name] = asyncio.create_task(self._keep(member))

    async def shrink(self, counts: Mapping[str, int]) -> None:
        """Stop services beyond the given number of each."""
        surplus = [m for service, count in counts.items() for m in self.of(service)[count:]]
        await asyncio.gather(*(self._retire(member) for member in surplus))

    async def end(self) -> None:
        """Stop all."""
        self._ending = True
        await asyncio.gather(*(self._retire(member) for member in list(self.members)))

    def of(self, service: str) -> list[Member]:
        return [member for member in self.members if member.service == service]

    def awake(self, service: str) -> list[Member]:
        """Return those of a service that run and are not paused."""
        return [member for member in self.of(service) if member.is_running and not member.paused]

    def by_pid(self, pid: int) -> Member | None:
        """Return the member whose process has this pid; None when it has exited."""
        found = (m for m in self.members if m.is_running and m.process and m.process.pid == pid)
        return next(found, None)

    def kill(self, member: Member) -> None:
        """Kill a process with SIGKILL; it is restarted at once."""
        if member.process is not None and member.is_running:
            self._killed.add(member.process.pid)
            with suppress(ProcessLookupError):
                member.process.kill()

    def pause(self, member: Member) -> None:
        """Pause a process; its connections stay open."""
        assert member.process is not None
        member.paused = True
        os.kill(member.process.pid, signal.SIGSTOP)

    def resume(self, member: Member) -> None:
        """Continue a paused process."""
        member.paused = False
        if member.process is not None:
            with suppress(ProcessLookupError):
                os.kill(member.process.pid, signal.SIGCONT)

    async def ready(self, seconds: float) -> None:
        """Return when every service is ready. Raises TimeoutError naming those that are not."""
        deadline = time.monotonic() + seconds
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_SECONDS)) as session:
            while waiting := [m.name for m in self.members if not await _is_ready(session, m)]:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not ready after {seconds:.0f} s: {', '.join(waiting)}")
                await asyncio.sleep(0.3)

    def any_url(self, service: str) -> str:
        """Return the address of a member that is awake, or of any if none is."""
        return random.choice(self.awake(service) or self.of(service)).url

    async def _keep(self, member: Member) -> None:
        while True:
            member.process = await self._start(member)
            member.paused, member.started_at = False, time.monotonic()
            code = await member.process.wait()
            if member.process.pid in self._killed:
                if self.scratches:
                    await asyncio.to_thread(shutil.rmtree, self.scratches / member.name, ignore_errors=True)
                await asyncio.sleep(RESTART_SECONDS)
                continue
            self.deaths.append(f"{member.name} exited with {code}: {_last_line(member.log)}")
            await asyncio.sleep(RESTART_AFTER_FAILURE_SECONDS)

    def _env_of(self, member: Member) -> dict[str, str]:
        env = {**self.env, "HTTP_PORT": str(member.port)}
        if self.scratches:
            scratch = self.scratches / member.name
            scratch.mkdir(exist_ok=True)
            env["WORK_DIR"] = str(scratch)
        return env

    async def _start(self, member: Member) -> asyncio.subprocess.Process:
        with member.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", f"services.{member.service}"),
                cwd=REPO,
                env=self._env_of(member),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def _retire(self, member: Member) -> None:
        self._keepers.pop(member.name).cancel()
        self.members.remove(member)
        process = member.process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        try:
            async with asyncio.timeout(END_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _is_ready(session: aiohttp.ClientSession, member: Member) -> bool:
    try:
        async with session.get(f"{member.url}/readyz") as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][-300:] if lines else ""
