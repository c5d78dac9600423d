"""The named statements of sql/*.sql, one object a file: `await videos.retry(connection, video_id=...)`.

A file is read when the first of its statements is used. Their types are in statements.pyi, generated from the
files by `make sql-stubs`: a wrong name or argument fails `make check`.
"""

from __future__ import annotations

from typing import Any

from shared.database.queries import queries


class _Statements:
    """The statements of one file."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, statement: str) -> Any:
        if statement.startswith("_"):
            raise AttributeError(statement)
        return getattr(queries(self._name), statement)


audit = _Statements("audit")
backlog = _Statements("backlog")
imports = _Statements("imports")
ingest = _Statements("ingest")
originals = _Statements("originals")
moves = _Statements("moves")
outbox = _Statements("outbox")
ownership = _Statements("ownership")
playback_keys = _Statements("playback_keys")
presets = _Statements("presets")
source_checks = _Statements("source_checks")
stalled = _Statements("stalled")
storages = _Statements("storages")
videos = _Statements("videos")
work_volume = _Statements("work_volume")
