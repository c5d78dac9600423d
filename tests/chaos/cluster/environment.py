"""The environment of the services: servers behind proxies, a small volume, short timeouts.

The volume is the work volume, or with `work="bucket"` it has the scratch of each process.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit, urlunsplit

from tests.chaos.cluster.servers import REPLACING, Servers
from tests.chaos.faults.s3_proxy import S3Proxy
from tests.chaos.faults.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from pathlib import Path

VOLUME_BYTES = 256 * 1024**2
HEARTBEAT_SECONDS = 4  # RabbitMQ redelivers the messages of a paused process after two to three of these
LEASE_SECONDS = 3
DELETE_AGAIN_SECONDS = 20
SWEEP_INTERVAL_SECONDS = 10
WORK_BUCKET, WORK_PREFIX = "vod-work", "work"
STALE_SECONDS = 40  # longer than any pause: an upload without a heartbeat for this long counts as dead
TUNING = {
    "STORAGE_TYPE": "s3",
    "DELETE_LOCAL_AFTER_S3": "true",
    "HLS_SEGMENT_SECONDS": "2",
    "CHUNK_SECONDS": "4",
    "GROWTH_SECONDS": "0.1",  # segments are stored before their chunk, however fast it is encoded
    "ENCODER": "libx264",
    "LEASE_SECONDS": str(LEASE_SECONDS),
    "RETRY_ATTEMPTS": "8",
    "RETRY_SECONDS": "0.25",
    "DRAIN_SECONDS": "2",
    "DELETE_AGAIN_SECONDS": str(DELETE_AGAIN_SECONDS),
    "S3_SINGLE_PUT_BYTES": str(96 * 1024),
    "S3_PART_BYTES": str(5 * 1024**2),  # the minimum of S3 for all parts but the last
    "SOURCE_PRIVATE_HOSTS": "localhost",
    "DISK_RESERVE_BYTES": str(16 * 1024**2),
    "SWEEP": "remove",
    "SWEEP_AGE_SECONDS": "2",  # safe: owned files stay whatever their age, and there is one clock
    "SWEEP_INTERVAL_SECONDS": str(SWEEP_INTERVAL_SECONDS),
    "UPLOAD_STALE_SECONDS": str(STALE_SECONDS),
    "HTTP_HOST": "127.0.0.1",
    "LOG_FORMAT": "json",
}


@dataclass
class Environment:
    """The directory of a run, with servers, proxies and the work volume."""

    root: Path
    servers: Servers
    rabbitmq: TcpProxy
    postgres: TcpProxy
    s3: S3Proxy
    volume_refused: str | None
    hand_over: Literal["volume", "bucket"] = "volume"

    @classmethod
    async def lay(cls, root: Path, hand_over: Literal["volume", "bucket"] = "volume") -> Environment:
        """Start servers and proxies, mount the work volume; `volume_refused` is the reason if that failed."""
        for name in ("points", "work", "logs", "clips"):
            (root / name).mkdir(parents=True, exist_ok=True)
        refused = _mount(root / "work")
        servers = Servers(root / "servers")
        try:
            await servers.up()
        except BaseException:
            await _remove(root, servers, is_mounted=refused is None)
            raise
        env = servers.env
        return cls(
            root,
            servers,
            rabbitmq=await _proxy(env["RABBITMQ_URL"]),
            postgres=await _proxy(env["DATABASE_URL"]),
            s3=await S3Proxy.start(env["S3_ENDPOINT_URL"]),
            volume_refused=refused,
            hand_over=hand_over,
        )

    @property
    def points(self) -> Path:
        return self.root / "points"

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def scratches(self) -> Path | None:
        """The directory with a scratch for each process; None where they share the work volume."""
        return self.work if self.hand_over == "bucket" else None

    def addresses(self) -> dict[str, str]:
        """Return the real addresses, for the invariant checks."""
        return {**self.servers.env, "WORK_DIR": str(self.work), **self._work_bucket()}

    def _work_bucket(self) -> dict[str, str]:
        if self.hand_over == "volume":
            return {}
        return {"WORK": "bucket", "S3_WORK_BUCKET": WORK_BUCKET, "S3_WORK_PREFIX": f"{WORK_PREFIX}/"}

    def service_env(self) -> dict[str, str]:
        """Return the environment variables of a service: addresses of proxies, short timeouts."""
        env = self.servers.env
        clean = {name: value for name, value in os.environ.items() if name not in REPLACING}
        return {
            **clean,
            **{name: env[name] for name in env if name.startswith("S3_")},
            **TUNING,
            **self._work_bucket(),
            "S3_ENDPOINT_URL": self.s3.url,
            "RABBITMQ_URL": f"{_through(env['RABBITMQ_URL'], self.rabbitmq)}?heartbeat={HEARTBEAT_SECONDS}",
            "DATABASE_URL": _through(env["DATABASE_URL"], self.postgres),
            "WORK_DIR": str(self.work),
            "CRASH_POINTS_DIR": str(self.points),
        }

    def heal(self) -> None:
        """End every fault in the proxies."""
        self.rabbitmq.heal()
        self.postgres.heal()
        self.s3.heal()

    async def clear(self, *, keep: bool) -> None:
        """Stop everything; keep the logs if `keep`."""
        for proxy in (self.rabbitmq, self.postgres, self.s3):
            await proxy.close()
        await _remove(self.root, self.servers, is_mounted=self.volume_refused is None, logs_stay=keep)


async def _remove(root: Path, servers: Servers, *, is_mounted: bool, logs_stay: bool = False) -> None:
    await servers.down()
    if is_mounted:
        await asyncio.to_thread(subprocess.run, ["umount", "--lazy", root / "work"], check=False)
    for path in [path for path in root.iterdir() if path.name != "logs"] if logs_stay else [root]:
        shutil.rmtree(path, ignore_errors=True)


def _mount(place: Path) -> str | None:
    """Mount a small volume in memory; return the reason if that is not permitted."""
    run = ["mount", "-t", "tmpfs", "-o", f"size={VOLUME_BYTES}", "tmpfs", str(place)]
    try:
        done = subprocess.run(run, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"mount: {error}"
    return None if done.returncode == 0 else done.stderr.strip() or "mount is not permitted"


async def _proxy(url: str) -> TcpProxy:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return await TcpProxy.start(parts.hostname, parts.port)


def _through(url: str, proxy: TcpProxy) -> str:
    parts = urlsplit(url)
    credentials = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{credentials}@127.0.0.1:{proxy.port}"))
