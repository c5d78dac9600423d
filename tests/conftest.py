from __future__ import annotations

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
