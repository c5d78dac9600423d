"""The edge of a pod, started with the command and the main file of the manifests."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import yaml

from devstack.edge import RULES
from tests.cluster.program_paths import K8S
from tests.processes import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WAIT_SECONDS = 20
LOOPBACK = ("127.0.0.1", "::1")


def edge_command() -> list[str]:
    """Return the command of the container `edge`."""
    deployment = next(yaml.safe_load_all((K8S / "base/streamer.yaml").read_text()))
    containers = deployment["spec"]["template"]["spec"]["containers"]
    (command,) = [each["command"] for each in containers if each["name"] == "edge"]
    return list(command)


@asynccontextmanager
async def started(
    folder: Path, *, interfaces: str = "/proc/net/if_inet6", files: str = "1024:4096"
) -> AsyncIterator[tuple[int, int]]:
    """Start the edge with all its paths in a directory; yield its port and its process."""
    port = free_port()
    places = {path: str(folder) for path in ("/etc/edge", "/var/cache/edge", "/tmp")}
    places |= {"8080": str(port), "8081": str(free_port()), "/proc/net/if_inet6": interfaces}

    def here(text: str) -> str:
        return re.sub("|".join(places), lambda found: places[found[0]], text)

    for rule in RULES.glob("*.conf"):
        (folder / rule.name).write_text(here(rule.read_text()))
    (folder / "segments.conf").write_text((folder / "segments-s3.conf").read_text())
    process = await asyncio.create_subprocess_exec("prlimit", f"--nofile={files}", *map(here, edge_command()))
    try:
        yield port, process.pid
    finally:
        process.terminate()
        async with asyncio.timeout(WAIT_SECONDS):
            await process.wait()


async def listens(host: str, port: int) -> bool:
    """Return whether a connection is accepted."""
    with suppress(OSError):
        _, writer = await asyncio.open_connection(host, port)
        writer.close()
        return True
    return False


@pytest.mark.parametrize(
    ("interfaces", "reached"),
    [("/proc/net/if_inet6", LOOPBACK), ("/proc/net/missing", LOOPBACK[:1])],
    ids=["with-ipv6", "without-ipv6"],
)
async def test_it_listens_on_every_address_that_a_pod_may_have(
    tmp_path: Path, interfaces: str, reached: tuple[str, ...]
) -> None:
    if "::1" in reached and not Path("/proc/net/if_inet6").read_text():
        pytest.skip("this machine has no IPv6")
    async with started(tmp_path, interfaces=interfaces) as (port, _):
        async with asyncio.timeout(WAIT_SECONDS):
            while not all([await listens(host, port) for host in reached]):
                await asyncio.sleep(0.1)
        assert [host for host in LOOPBACK if await listens(host, port)] == list(reached)


async def test_its_workers_may_open_as_many_files_as_the_node_allows(tmp_path: Path) -> None:
    """Some container runtimes set a low soft limit and a high hard limit, others a hard limit of 65535."""
    async with started(tmp_path, files="1024:4096") as (_, pid), asyncio.timeout(WAIT_SECONDS):
        while not (
            workers := [each.pid for each in psutil.Process(pid).children() if each.name() == "nginx"]
        ):
            await asyncio.sleep(0.1)
        limits = [Path(f"/proc/{each}/limits").read_text() for each in workers]
        assert all(re.search(r"^Max open files +4096 +4096 ", each, re.MULTILINE) for each in limits)
