"""The minimum speed of an upload, and how long it waits for Postgres."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class UploadPace:
    """An upload without data for `stall_seconds` is aborted.

    `write_bytes` are buffered before they are written. After the last byte, the upload waits up to
    `patience_seconds` for Postgres, with pauses between attempts.
    """

    stall_seconds: float = 60.0
    write_bytes: int = 1024 * 1024
    patience_seconds: float = 60.0
    pause_seconds: float = 1.0
