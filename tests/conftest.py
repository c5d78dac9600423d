from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog

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
