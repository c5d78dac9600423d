"""How fast an upload has to come, and how long it waits for Postgres."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class UploadPace:
    """An upload from which nothing comes for `stall_seconds` is given up.

    `write_bytes` are collected before they are written. When all bytes have come, the upload waits
    `patience_seconds` for Postgres, with pauses between its attempts.
    """

    stall_seconds: float = 60.0
    write_bytes: int = 1024 * 1024
    patience_seconds: float = 60.0
    pause_seconds: float = 1.0
