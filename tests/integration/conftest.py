"""Real servers for the tests: those named in the environment, else containers, else a private stack."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid4, uuid5

import asyncpg
import pytest
from aiobotocore.session import get_session

from shared.database.migrate import migrate
from shared.database.pool import open_database
from shared.settings import Settings
from tests.leaks import leaks_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from shared.database.pool import Database

REPO = Path(__file__).parents[2]


@dataclass(frozen=True)
class Servers:
    """Where RabbitMQ, Postgres and the S3 server of this test run answer."""

    rabbitmq_url: str
    database_url: str
    s3_endpoint_url: str
    s3_region: str
    s3_bucket: str
    s3_access_key_id: str
    s3_secret_access_key: str

    def settings(self, **overrides: Any) -> Settings:
        """Return settings that reach these servers; `work_dir` must be given.

        With WORK=bucket in the environment, each `work_dir` of a service with S3 has a work bucket.
        """
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values |= {"storage_type": "local", "http_host": "127.0.0.1"} | overrides
        if os.environ.get("WORK") == "bucket":
            values = self._work(values) | values
        return Settings(**values)

    def _work(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return where the services of one `work_dir` hand files over in a bucket."""
        if values["storage_type"] == "local":
            return {"work": "volume"}
        prefix = f"work-{uuid5(NAMESPACE_URL, str(values['work_dir'])).hex}/"
        bucket = self.s3_work_bucket if values.get("s3_public_url") else ""
        return {"work": "bucket", "s3_work_prefix": prefix, "s3_work_bucket": bucket}

    @property
    def s3_work_bucket(self) -> str:
        """A bucket that stays private when videos are public."""
        return f"{self.s3_bucket}-work"

    async def create_work_bucket(self) -> None:
        """Create the work bucket if it does not exist."""
        async with get_session().create_client(
            "s3",
            endpoint_url=self.s3_endpoint_url,
            region_name=self.s3_region,
            aws_access_key_id=self.s3_access_key_id,
            aws_secret_access_key=self.s3_secret_access_key,
        ) as s3:
            if self.s3_work_bucket not in {each["Name"] for each in (await s3.list_buckets())["Buckets"]}:
                await s3.create_bucket(Bucket=self.s3_work_bucket)


NAMES = tuple(name.upper() for name in Servers.__dataclass_fields__)


def _read_env(path: Path) -> Servers:
    values = dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
    return Servers(**{name.lower(): values[name] for name in NAMES})


def _local(command: str, directory: Path) -> None:
    run = [sys.executable, "-m", "devstack", command, "--dir", str(directory)]
    if command == "up":
        run.append("--servers-only")
    subprocess.run(run, cwd=REPO, check=True, env=os.environ)


async def _disable_fsync(database_url: str) -> None:
    """Make commits several times faster. Data still survive a killed server, though not a power failure."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("alter system set fsync = off")
        await connection.execute("select pg_reload_conf()")
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def servers(outside_servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers for the whole session; private ones are stopped at the end."""
    directory = tmp_path_factory.mktemp("servers")
    try:
        _local("up", directory)
        servers = _read_env(directory / "env")
        if "DATABASE_URL" not in os.environ:
            asyncio.run(_disable_fsync(servers.database_url))
        if os.environ.get("WORK") == "bucket":
            asyncio.run(servers.create_work_bucket())
        yield servers
    finally:
        _local("down", directory)
    assert leaks_in(directory) == []


@asynccontextmanager
async def new_database(servers: Servers, template: str = "template1") -> AsyncIterator[str]:
    """Create a database as a copy of `template`, yield its URL, and drop it afterwards."""
    name = f"test_{uuid4().hex}"
    admin = await asyncpg.connect(servers.database_url)
    try:
        await admin.execute(f'create database "{name}" template "{template}"')
        yield servers.database_url.rsplit("/", 1)[0] + f"/{name}"
        await admin.execute(f'drop database "{name}" with (force)')
    finally:
        await admin.close()


@pytest.fixture(scope="session")
def migrated_template(servers: Servers) -> Iterator[str]:
    """Create a database with the current schema: copying it is faster than applying all migrations."""
    with asyncio.Runner() as runner:
        template = new_database(servers)
        url = runner.run(template.__aenter__())
        runner.run(migrate(url))
        yield url.rsplit("/", 1)[1]
        runner.run(template.__aexit__(None, None, None))


@pytest.fixture
async def empty_database_url(servers: Servers) -> AsyncIterator[str]:
    """Yield the URL of a new database without a schema."""
    async with new_database(servers) as url:
        yield url


@pytest.fixture
async def database_url(servers: Servers, migrated_template: str) -> AsyncIterator[str]:
    """Yield the URL of a new database with the current schema and no rows."""
    async with new_database(servers, migrated_template) as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Yield a new database with the current schema and no rows."""
    async with open_database(database_url) as opened:
        yield opened


@pytest.fixture
async def eventually() -> Any:
    """Return a function that awaits a condition, failing after `seconds`."""

    async def wait(condition: Any, *, seconds: float = 60.0) -> Any:
        async with asyncio.timeout(seconds):
            while not (value := await condition()):
                await asyncio.sleep(0.05)
            return value

    return wait
