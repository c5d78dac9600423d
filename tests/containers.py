"""Servers from containers, where a Docker engine answers; addresses as the services' variables."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from docker.errors import DockerException
from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from tests.conftest import SERVERS

if TYPE_CHECKING:
    from collections.abc import Iterator

POSTGRES, RABBITMQ, SEAWEEDFS = "postgres:15", "rabbitmq:3.13", "chrislusf/seaweedfs:3.80"
ENGINE = "/var/run/docker.sock"


@contextmanager
def servers_outside() -> Iterator[None]:
    """Put containers' addresses into the environment while the block runs.

    Does nothing where addresses are given already, or where no engine answers or it has no images: then the
    private stack of devstack is used.
    """
    with ExitStack() as stack:
        if not any(os.environ.get(name) for name in SERVERS) and _engine_answers():
            try:
                found = _start(stack)
            except DockerException as error:
                print(f"no containers ({error}); using private servers")
                found = {}
            os.environ.update(found)
            stack.callback(_forget, found)
        yield


def _engine_answers() -> bool:
    """Check the engine's socket directly: the client leaks one when there is no answer."""
    if os.environ.get("DOCKER_HOST"):
        return True
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        try:
            connection.connect(ENGINE)
            connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.0 200")
        except OSError:
            return False


def _start(stack: ExitStack) -> dict[str, str]:
    postgres = stack.enter_context(PostgresContainer(POSTGRES, driver=None))
    rabbitmq = DockerContainer(RABBITMQ).with_exposed_ports(5672)
    stack.enter_context(rabbitmq.waiting_for(LogMessageWaitStrategy("Server startup complete")))
    s3 = DockerContainer(SEAWEEDFS).with_command("server -s3 -dir=/data").with_exposed_ports(8333)
    stack.enter_context(s3.waiting_for(LogMessageWaitStrategy("Start Seaweed S3 API Server")))
    return {
        "DATABASE_URL": postgres.get_connection_url(),
        "RABBITMQ_URL": f"amqp://guest:guest@{_address(rabbitmq, 5672)}/",
        "S3_ENDPOINT_URL": f"http://{_address(s3, 8333)}",
        "S3_REGION": "us-east-1",
        "S3_BUCKET": "videos",
        "S3_ACCESS_KEY_ID": "any",
        "S3_SECRET_ACCESS_KEY": "any",
    }


def _address(container: DockerContainer, port: int) -> str:
    return f"{container.get_container_host_ip()}:{container.get_exposed_port(port)}"


def _forget(names: dict[str, str]) -> None:
    for name in names:
        os.environ.pop(name, None)
