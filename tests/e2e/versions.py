"""Services of several versions on the same servers, as during a rolling update."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tarfile
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.e2e.system import REPO, Client
from tests.processes import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

READY_SECONDS = 60.0
SERVICES = ("ingest", "transcoder", "uploader", "streamer")


def tree_of(commit: str, folder: Path) -> Path:
    """Unpack a commit of this repository; skips the test where there is no such history."""
    run = ["git", "-C", str(REPO), "archive", commit, "services", "shared"]
    archive = subprocess.run(run, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"the history lacks {commit}: {archive.stderr.decode().strip()}")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as packed:
        packed.extractall(folder, filter="data")
    return folder


@dataclass
class Fleet:
    """Processes of services, each started from the tree of one version."""

    variables: Mapping[str, str]
    logs: Path
    running: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    async def start(self, tree: Path, *services: str) -> None:
        """Start services of one version and wait until they are ready; a suffix (".2") tells two apart."""
        for name in services:
            self.ports[name] = free_port()
            with (self.logs / f"{name}.log").open("ab") as log:
                self.running[name] = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", f"services.{name.split('.')[0]}"),
                    cwd=tree,
                    env=os.environ | self.variables | {"HTTP_PORT": str(self.ports[name])},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
        await asyncio.gather(*map(self._ready, services))

    async def _ready(self, name: str) -> None:
        url = f"http://127.0.0.1:{self.ports[name]}/readyz"
        async with aiohttp.ClientSession() as session, asyncio.timeout(READY_SECONDS):
            while True:
                assert self.running[name].returncode is None, self.log(name)[-2000:]
                try:
                    async with session.get(url) as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.2)

    async def end(self, *services: str, kill: bool = False) -> None:
        """End services, by SIGTERM or at once."""
        processes = [self.running.pop(name) for name in services]
        for process in processes:
            process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        async with asyncio.timeout(READY_SECONDS):
            await asyncio.gather(*(process.wait() for process in processes))

    def log(self, name: str) -> str:
        return (self.logs / f"{name}.log").read_text()

    @asynccontextmanager
    async def client(self, ingest: str) -> AsyncIterator[Client]:
        """Open the API of one of the ingest services with the key of an administrator."""
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{self.ports[ingest]}"
            yield Client(session, {"INGEST_URL": url}, self.variables["ADMIN_API_KEY"])


async def create_key(tree: Path, variables: Mapping[str, str]) -> str:
    """Have the ingest of one version make an administrator's key; it brings the schema to that version."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.ingest", "create-key", "--scope", "admin", "--name", "test"),
        cwd=tree,
        env=os.environ | variables,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode().split()[-1]
