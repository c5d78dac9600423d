from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import structlog

from tests.leaks import leaks_below

if TYPE_CHECKING:
    from collections.abc import Iterator

structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(key_order=["event"]),
    ]
)


SERVERS = ("DATABASE_URL", "RABBITMQ_URL", "S3_ENDPOINT_URL")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse several processes on one set of servers: each would take the other's messages."""
    given = [name for name in SERVERS if os.environ.get(name)]
    if given and config.getoption("numprocesses", None):
        message = "is set, and one set of servers serves one process: run make with TEST_PROCESSES=0"
        raise pytest.UsageError(f"{given[0]} {message}")


@pytest.fixture(scope="session")
def outside_servers() -> Iterator[None]:
    """Servers from containers for the whole session, where there is an engine and no address is given."""
    from tests.containers import servers_outside  # noqa: PLC0415 - unit tests need none of it

    with servers_outside():
        yield


@pytest.fixture(scope="session", autouse=True)
def no_secrets_in_logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """After all tests, when every stack is down: no log holds a secret that any of them used."""
    yield
    assert leaks_below(tmp_path_factory.getbasetemp()) == []
