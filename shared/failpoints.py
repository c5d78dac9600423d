"""Failpoints: named places between two durable effects where a test can stop a process, to kill or delay it.

In production CRASH_POINTS_DIR is not set and `failpoint` does nothing. With it, a process that reaches a
point for which `<point>.armed` exists in that directory renames the file to `<point>.<pid>.parked`, which
only one process can do, and stops itself (SIGSTOP). The test then kills it, or continues it (SIGCONT) after
its work has been given to another process.

Every point is registered below with the durable state when a process dies there, and how the system recovers.
docs/failpoints.md is generated from this list (`make schemas`).
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VARIABLE: Final = "CRASH_POINTS_DIR"
QUEUES: Final = (
    "transcoder.plan",
    "transcoder.first",
    "transcoder.bulk",
    "uploader.store",
    "uploader.segments",
    "uploader.delete",
)
RELAYS: Final = ("ingest", "transcoder", "uploader")
PLACEHOLDERS: Final = {"<queue>": QUEUES, "<service>": RELAYS}


@dataclass(frozen=True)
class Failpoint:
    """Points with the same state and recovery; `<queue>` and `<service>` stand for each of them."""

    patterns: tuple[str, ...]
    durable: str
    recovery: str

    @property
    def points(self) -> tuple[str, ...]:
        """The names of the points, placeholders filled in."""
        return tuple(point for pattern in self.patterns for point in _expand(pattern))


def _expand(pattern: str) -> tuple[str, ...]:
    for placeholder, values in PLACEHOLDERS.items():
        if placeholder in pattern:
            return tuple(pattern.replace(placeholder, value) for value in values)
    return (pattern,)


FAILPOINTS: Final = (
    Failpoint(
        ("upload.written", "upload.synced"),
        "a partial file",
        "no 202 was sent; ingest removes unlocked upload files after an hour",
    ),
    Failpoint(
        ("upload.renamed", "upload.kept"),
        "the original; its record is absent or being committed",
        "no 202 was sent; the sweep removes an original without a lock and without a record",
    ),
    Failpoint(
        ("upload.committed",),
        "original, record, event in the outbox; the client has no answer",
        "processing continues: the relay sends the event",
    ),
    Failpoint(
        ("retry.committed", "delete.marked"),
        "the new state, the command in the outbox",
        "the relay sends the command",
    ),
    Failpoint(
        ("<service>.relay.taken",),
        "messages reserved by a relay, not sent",
        "they are due again when the reservation expires",
    ),
    Failpoint(
        ("<service>.relay.sent",),
        "a message sent, not marked as sent",
        "it is sent again with the same id; the duplicate changes nothing",
    ),
    Failpoint(("<service>.relay.marked",), "everything", "nothing to do"),
    Failpoint(("<queue>.pulled",), "nothing; the message is unacknowledged", "redelivery"),
    Failpoint(
        ("<queue>.handled",),
        "the effects, not acknowledged",
        "redelivery; the handler is superseded",
    ),
    Failpoint(("<queue>.acknowledged",), "everything", "nothing to do"),
    Failpoint(("plan.accepted",), "the record of a platform's event", "redelivery"),
    Failpoint(
        ("plan.claimed",),
        "the planning lease",
        "redelivery; planning starts when the lease expires",
    ),
    Failpoint(
        ("source.written",),
        "a fetched source under a temporary name",
        "redelivery fetches it again; the sweep removes the temporary file",
    ),
    Failpoint(
        ("plan.fetched", "plan.thumbnail"),
        "the source, perhaps the thumbnail",
        "redelivery uses or replaces them",
    ),
    Failpoint(
        ("plan.committed",),
        "plan, chunks, commands in the outbox",
        "redelivery; the handler is superseded",
    ),
    Failpoint(
        ("encode.claimed",),
        "attempt and lease of a chunk",
        "redelivery; the next attempt starts when the lease expires",
    ),
    Failpoint(
        ("encode.segments_verified",),
        "the first segments of a chunk in the directory of the attempt",
        "redelivery of `chunk.encode`; players keep what they were shown",
    ),
    Failpoint(
        ("encode.segments_committed",),
        "those segments registered, `chunk.store` in the outbox",
        "they are stored; the next attempt at the chunk registers its own in their place",
    ),
    Failpoint(
        ("encode.written", "encode.verified"),
        "segments in the directory of the attempt",
        "as above; the sweep removes the directory",
    ),
    Failpoint(
        ("encode.committed",),
        "registered segments, event in the outbox",
        "redelivery; the handler is superseded",
    ),
    Failpoint(
        ("segments.claimed", "segments.put"),
        "none or all objects of the segments, a lease on storing them",
        "redelivery of `chunk.store` puts them again when the lease expires; later the whole chunk is stored",
    ),
    Failpoint(
        ("segments.committed",),
        "the segments are shown to players",
        "redelivery; the handler is superseded",
    ),
    Failpoint(
        ("store.begun", "store.segment_put", "store.segments_put"),
        "none, some or all objects of a chunk",
        "redelivery puts them again under the same keys",
    ),
    Failpoint(
        ("s3.upload_begun", "s3.part_put", "s3.parts_put"),
        "an open multipart upload",
        "redelivery starts a new upload; the sweep aborts the first",
    ),
    Failpoint(
        ("store.committed", "store.files_removed"),
        "the chunk is stored",
        "redelivery; the handler is superseded",
    ),
    Failpoint(
        ("finish.begun", "finish.artifact_put", "finish.playlist_put", "finish.playlists_put"),
        "none, some or all playlists",
        "redelivery puts them again, the multivariant playlist last",
    ),
    Failpoint(
        ("finish.committed", "finish.files_removed"),
        "`ready` and its event in the outbox; perhaps local files",
        "redelivery; the handler is superseded and removes local files that are no longer needed",
    ),
    Failpoint(
        ("delete.objects_removed", "delete.files_removed"),
        "some objects or files are removed",
        "redelivery; removing again changes nothing",
    ),
    Failpoint(("delete.committed",), "everything but the tombstone is removed", "the second pass"),
)
POINTS: Final = tuple(point for entry in FAILPOINTS for point in entry.points)


def failpoint(point: str) -> None:
    """Stop this process here if `point` is armed; otherwise, and always in production, do nothing."""
    if directory := os.environ.get(VARIABLE):
        _park(Path(directory), point)


def _park(directory: Path, point: str) -> None:
    if point not in POINTS:
        raise LookupError(f"{point!r} is not a failpoint: register it in {__name__}")
    with suppress(FileNotFoundError):
        (directory / f"{point}.armed").rename(directory / f"{point}.{os.getpid()}.parked")
        os.kill(os.getpid(), signal.SIGSTOP)
