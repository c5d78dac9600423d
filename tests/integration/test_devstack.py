"""The stack without Docker: its servers for real, in a directory that only root may enter."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import aio_pika
import asyncpg
import psutil
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from devstack.environment import GIVABLE, read_env_file
from devstack.install import _no_daemon_starts
from devstack.ports import GRPC_OFFSET, hold_ports
from devstack.processes import is_alive, start_ticks, stop
from devstack.programs import REPOSITORY
from devstack.state import Running, StackDir

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVERS = {"epmd", "rabbitmq", "postgres", "seaweedfs"}


def local(command: str, directory: Path, *options: str, **given: str) -> str:
    """Run one command of the stack and return its output."""
    environ = {name: value for name, value in os.environ.items() if name not in GIVABLE} | given
    argv = [sys.executable, "-m", "devstack", command, "--dir", str(directory), *options]
    done = subprocess.run(argv, cwd=REPOSITORY, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def running(directory: Path) -> dict[str, Running]:
    return StackDir(directory).load().running


def processes_of(directory: Path) -> list[str]:
    """Find every living process that has anything to do with `directory`."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            told = [*process.cmdline(), *process.environ().values(), process.cwd()]
            if process.pid != os.getpid() and any(str(directory) in each for each in told):
                found.append(f"{process.pid} {process.name()}")
    return found


@pytest.fixture
def closed_directory(tmp_path: Path) -> Path:
    """Return a path below a directory that only its owner may enter."""
    above = tmp_path / "closed"
    above.mkdir(mode=0o700)
    return above / "stack"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    above = tmp_path_factory.mktemp("closed")
    above.chmod(0o700)
    directory = above / "stack"
    local("up", directory, "--servers-only")
    yield directory
    local("down", directory)
    assert processes_of(directory) == []


@pytest.fixture
def env(stack: Path) -> dict[str, str]:
    return read_env_file(stack / "env")


async def test_up_gives_a_postgres_that_keeps_what_it_confirms(env: dict[str, str]) -> None:
    connection = await asyncpg.connect(env["DATABASE_URL"])
    try:
        assert await connection.fetchval("SHOW fsync") == "on"
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
    finally:
        await connection.close()


async def test_up_gives_a_rabbitmq_that_carries_messages(env: dict[str, str]) -> None:
    async with await aio_pika.connect(env["RABBITMQ_URL"]) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await channel.default_exchange.publish(aio_pika.Message(b"hello"), queue.name)
        message = await queue.get(timeout=10)
        assert message is not None
        assert message.body == b"hello"


async def test_up_gives_an_s3_that_stores_and_wants_the_right_key(env: dict[str, str]) -> None:
    async with s3_client(env, env["S3_SECRET_ACCESS_KEY"]) as s3:
        await s3.put_object(Bucket=env["S3_BUCKET"], Key="a/b", Body=b"stored")
        stored = await s3.get_object(Bucket=env["S3_BUCKET"], Key="a/b")
        assert await stored["Body"].read() == b"stored"
    async with s3_client(env, "wrong") as s3:
        with pytest.raises(s3.exceptions.ClientError, match="SignatureDoesNotMatch"):
            await s3.list_buckets()


def s3_client(env: dict[str, str], secret: str) -> Any:
    return get_session().create_client(
        "s3",
        endpoint_url=env["S3_ENDPOINT_URL"],
        region_name=env["S3_REGION"],
        aws_access_key_id=env["S3_ACCESS_KEY_ID"],
        aws_secret_access_key=secret,
        config=AioConfig(s3={"addressing_style": "path"}),
    )


def test_env_file_is_for_its_owner_alone(stack: Path) -> None:
    assert (stack / "env").stat().st_mode & 0o777 == 0o600


def test_every_listener_is_on_loopback(stack: Path) -> None:
    pids = {each.pid for each in running(stack).values()}
    listening = [
        c for c in psutil.net_connections("inet") if c.pid in pids and c.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= len(SERVERS)
    assert {c.laddr.ip for c in listening} <= {"127.0.0.1", "::1"}


def test_up_changes_nothing_and_is_quick_when_all_parts_run(stack: Path) -> None:
    before, began = running(stack), time.monotonic()
    said = local("up", stack, "--servers-only")
    assert time.monotonic() - began < 5
    assert running(stack) == before
    assert "started" not in said


@pytest.mark.parametrize("victim", sorted(SERVERS))
async def test_up_starts_just_the_one_that_was_killed(stack: Path, env: dict[str, str], victim: str) -> None:
    before = running(stack)
    os.kill(before[victim].pid, signal.SIGKILL)
    local("up", stack, "--servers-only")
    after = running(stack)
    assert {name for name in before if before[name].pid != after[name].pid} == {victim}
    assert read_env_file(stack / "env") == env, "addresses stay"


async def test_postgres_keeps_data_and_up_survives_its_kill_under_load(
    stack: Path, env: dict[str, str]
) -> None:
    connection = await asyncpg.connect(env["DATABASE_URL"])
    await connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    os.kill(running(stack)["postgres"].pid, signal.SIGKILL)
    local("up", stack, "--servers-only")
    connection.terminate()
    connection = await asyncpg.connect(env["DATABASE_URL"])
    assert await connection.fetchval("SELECT count(*) FROM kept") == 1000
    await connection.close()


def test_status_names_every_part(stack: Path) -> None:
    said = local("status", stack)
    assert all(name in said for name in SERVERS)
    assert said.count("ready") == len(SERVERS)


def test_down_leaves_nothing_running_and_is_harmless_twice(closed_directory: Path) -> None:
    # RabbitMQ, the slowest server, is configured as external: none is started
    local("up", closed_directory, "--servers-only", RABBITMQ_URL="amqp://elsewhere.invalid/")
    assert running(closed_directory).keys() == {"postgres", "seaweedfs"}
    assert read_env_file(closed_directory / "env")["RABBITMQ_URL"] == "amqp://elsewhere.invalid/"
    local("down", closed_directory)
    assert processes_of(closed_directory) == []
    assert running(closed_directory) == {}
    local("down", closed_directory)
    local("down", closed_directory, "--wipe")
    assert not closed_directory.exists()
    local("down", closed_directory)


def test_stop_spares_a_process_that_has_reused_our_pid() -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        ticks = start_ticks(other.pid)
        assert ticks is not None
        recycled = record(other.pid, ticks - 1)
        assert not is_alive(recycled)
        asyncio.run(stop(recycled))
        assert other.poll() is None
        asyncio.run(stop(record(other.pid, ticks)))
        assert other.wait(timeout=5) == -signal.SIGTERM


def test_stop_ends_children_that_ignore_the_signal() -> None:
    script = "trap '' TERM; sleep 61 & setsid sleep 62 & wait; sleep 63"
    with subprocess.Popen(["sh", "-c", script], start_new_session=True) as parent:
        while len(psutil.Process(parent.pid).children(recursive=True)) < 2:
            time.sleep(0.02)
        family = psutil.Process(parent.pid).children(recursive=True)
        ticks = start_ticks(parent.pid)
        assert ticks is not None
        asyncio.run(stop(record(parent.pid, ticks)))
        assert parent.wait(timeout=5) == -signal.SIGKILL
        assert not [child for child in family if child.is_running() and child.status() != "zombie"]


def record(pid: int, ticks: int) -> Running:
    return Running(pid, ticks, fingerprint="", stage=0, stop_signal=signal.SIGTERM, grace_seconds=0.5)


def test_hold_ports_keeps_remembered_ones_and_replaces_those_that_are_taken() -> None:
    with hold_ports(["a", "b"], {}) as first:
        pass
    with socket.create_server(("127.0.0.1", first["b"])), hold_ports(["a", "b"], first) as second:
        assert second["a"] == first["a"]
        assert second["b"] != first["b"]


def test_hold_ports_gives_two_stacks_different_ones() -> None:
    names = [f"part-{n}" for n in range(200)]
    with hold_ports(names, {}) as ours, hold_ports(names, {}) as theirs:
        assert not set(ours.values()) & set(theirs.values())


def test_hold_ports_lets_the_owner_listen() -> None:
    with hold_ports(["seaweedfs-s3"], {}) as held:
        for port in (held["seaweedfs-s3"], held["seaweedfs-s3"] + GRPC_OFFSET):
            with socket.create_server(("127.0.0.1", port)):  # sets SO_REUSEADDR, as every part does
                pass


def test_packages_may_not_start_daemons_while_they_are_installed(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    with _no_daemon_starts(policy):
        assert subprocess.run([policy], check=False).returncode == 101
    assert not policy.exists()
    policy.write_text("the machine's own")
    with _no_daemon_starts(policy):
        assert policy.read_text() == "the machine's own"
    assert policy.exists()


def test_state_survives_a_round_trip(tmp_path: Path) -> None:
    directory = StackDir(tmp_path)
    state = directory.load()
    state.ports["postgres"] = 12345
    state.running["postgres"] = record(1, 2)
    directory.save(state)
    assert directory.load() == state
    assert json.loads((tmp_path / "state.json").read_text())["ports"] == {"postgres": 12345}
