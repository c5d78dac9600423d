"""Failpoints: named places between two durable effects, where a test can stop a process to kill or delay it.

In production CRASH_POINTS_DIR is not set and `failpoint` does nothing. With it, a process that reaches a
point for which `<point>.armed` lies there renames the file to `<point>.<pid>.parked`, which only
one process can do, and stops itself (SIGSTOP). The test then kills it, or continues it (SIGCONT) when
its work has long been given to another. docs/reliability.md says for every point what recovers from it.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

DIRECTORY: Final = os.environ.get("CRASH_POINTS_DIR")

QUEUES: Final = (
    "transcoder.plan",
    "transcoder.first",
    "transcoder.bulk",
    "uploader.store",
    "uploader.delete",
)
CONSUME: Final = ("pulled", "handled", "acknowledged")
RELAY: Final = ("taken", "sent", "marked")
POINTS: Final = (
    *("upload.written", "upload.synced", "upload.renamed", "upload.kept", "upload.committed"),
    *("retry.committed", "delete.marked"),
    *(f"{name}.relay.{step}" for name in ("ingest", "transcoder", "uploader") for step in RELAY),
    *(f"{queue}.{step}" for queue in QUEUES for step in CONSUME),
    *("plan.accepted", "plan.claimed", "source.written", "plan.fetched", "plan.thumbnail", "plan.committed"),
    *("encode.claimed", "encode.written", "encode.verified", "encode.committed"),
    *("store.begun", "store.segment_put", "store.segments_put", "store.committed", "store.files_removed"),
    *("s3.upload_begun", "s3.part_put", "s3.parts_put"),
    *("finish.begun", "finish.thumbnail_put", "finish.playlist_put", "finish.playlists_put"),
    *("finish.committed", "finish.files_removed"),
    *("delete.objects_removed", "delete.files_removed", "delete.committed"),
)


def failpoint(point: str) -> None:
    """Stop this process here if `point` is armed; otherwise, and always in production, do nothing."""
    if DIRECTORY is not None:
        _park(Path(DIRECTORY), point)


def _park(directory: Path, point: str) -> None:
    if point not in POINTS:
        raise LookupError(f"{point!r} is no failpoint: name it in {__name__}")
    with suppress(FileNotFoundError):
        (directory / f"{point}.armed").rename(directory / f"{point}.{os.getpid()}.parked")
        os.kill(os.getpid(), signal.SIGSTOP)
