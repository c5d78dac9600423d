from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Any

from shared.http.connections import MIN_CONNECTIONS, Connections, MemoryLimit, allowed_connections

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


class FakeConnection:
    """Stands in for a connection of aiohttp, its transport and its socket: notes that it was ended."""

    def __init__(self) -> None:
        self.transport, self.is_ended = self, False

    def get_extra_info(self, _: str) -> FakeConnection:
        return self

    def setsockopt(self, *_: object) -> None:
        """Take an option."""

    def shutdown(self, _: int) -> None:
        self.is_ended = True


def opened(connections: Any, count: int) -> list[Any]:
    made = [FakeConnection() for _ in range(count)]
    for each in made:
        connections.opened(each)
    return made


def test_a_new_connection_replaces_the_one_that_has_been_silent_the_longest() -> None:
    connections: Any = Connections(3, lambda: False)
    first, second, third = opened(connections, 3)
    connections.used(first)
    opened(connections, 1)
    assert [each.is_ended for each in (first, second, third)] == [False, True, False]
    connections.closed(second)
    connections.used(second)  # its last bytes may arrive late
    connections.closed(third)
    (fifth,) = opened(connections, 1)
    assert not fifth.is_ended
    assert not first.is_ended


def test_short_memory_closes_one_connection_for_each_new_one_but_never_the_last_few() -> None:
    connections: Any = Connections(10_000, lambda: True)
    made = opened(connections, MIN_CONNECTIONS + 5)
    assert [each.is_ended for each in made].count(True) == 5
    assert not any(each.is_ended for each in made[5:])


def test_limit_of_open_files_leaves_room_for_what_a_viewer_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1256, 4096))
    assert allowed_connections() == 500
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    assert allowed_connections() == 1


def test_memory_is_short_near_the_limit_of_the_container_whatever_is_in_the_page_cache(
    tmp_path: Path,
) -> None:
    now = [0.0]
    memory = MemoryLimit(tmp_path, lambda: now[0])
    assert not memory.is_short()  # no container
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.stat").write_text("anon 500\nfile 9000\nsock 300\n")
    assert not memory.is_short()
    (tmp_path / "memory.stat").write_text("anon 500\nfile 0\nsock 450\n")
    now[0] = 0.1
    assert not memory.is_short()  # not looked at again yet
    now[0] = 0.5
    assert memory.is_short()
    (tmp_path / "memory.max").write_text("max\n")
    now[0] = 1.0
    assert not memory.is_short()
