"""The invariants: pure functions of a snapshot, each yielding (kind, finding)."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from tests.chaos.invariants.values import KINDS, Accepted, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.chaos.invariants.values import Expected, Row, Snapshot

    Found = Iterator[tuple[str, Finding]]

TERMINAL = ("ready", "failed", "deleted")
ANY_END = frozenset(TERMINAL)
MARKER = "hls/vod-storage.json"  # identifies the storage
OF_A_VIDEO = re.compile(r"hls/[A-Za-z0-9_-]+/(?P<video_id>[0-9a-f-]{36})/(?P<name>.+)")
FILE = re.compile(r"(?P<place>originals|chunks)/(?P<video_id>[0-9a-f-]{36})/(?P<name>.+)")
MASTER, THUMBNAIL = "master.m3u8", "thumbnail.jpg"
REFUSED_EVENT = "invalid_event"


def check(seen: Snapshot, expected: Expected) -> dict[str, list[Finding]]:
    """Return every finding that needs no object's content, by kind."""
    found: dict[str, list[Finding]] = {kind: [] for kind in KINDS}
    for invariant in (ends, told_once, objects, files, scratch, uploads, at_rest, dead_letters):
        for kind, finding in invariant(seen, expected):
            found[kind].append(finding)
    return found


def ends(seen: Snapshot, expected: Expected) -> Found:
    """Every accepted video has ended in an allowed way."""
    for video_id, wanted in _all(seen, expected).items():
        row = seen.rows.get(video_id)
        if row is None:
            yield "lost", Finding(video_id, "was accepted, but is not in the database")
        elif row.status not in TERMINAL:
            yield "lost", Finding(video_id, f"has not ended: {row.status}")
        elif row.status not in wanted.outcomes:
            yield "lost", Finding(video_id, f"is {row.status} ({row.reason}), not {_either(wanted.outcomes)}")
        elif wanted.retries is not None and row.run - 1 > wanted.retries:
            yield "doubled", Finding(video_id, f"ran {row.run} times after {wanted.retries} retries")
        elif wanted.retries is not None and row.run - 1 < wanted.retries:
            yield "lost", Finding(video_id, f"ran {row.run} times after {wanted.retries} retries")


def told_once(seen: Snapshot, _: Expected) -> Found:
    """Every run of a video was announced exactly once; a duplicate of the same event id is allowed.

    An event that was refused is answered without a record.
    """
    told: dict[str, dict[str, str]] = defaultdict(dict)
    for event in seen.events:
        told[event.video_id][event.event_id] = event.kind
    refused = {event.video_id for event in seen.events if event.reason == REFUSED_EVENT}
    for video_id in told.keys() - seen.rows.keys() - refused:
        yield "lost", Finding(video_id, "an event announced its end, but it is not in the database")
    for row in seen.rows.values():
        counts = Counter(told[row.video_id].values())
        stored, failed = counts["video.stored"], counts["video.failed"]
        should = {"ready": (1, row.run - 1), "failed": (0, row.run)}.get(row.status)
        if should is None:
            most = row.run if row.status == "deleted" else row.run - 1
            if stored > 1 or stored + failed > most:
                yield "doubled", Finding(row.video_id, _told(row, stored, failed))
        elif stored > should[0] or failed > should[1]:
            yield "doubled", Finding(row.video_id, _told(row, stored, failed))
        elif (stored, failed) != should:
            yield "lost", Finding(row.video_id, _told(row, stored, failed))


def objects(seen: Snapshot, expected: Expected) -> Found:
    """Ready videos have exactly their objects with the right sizes; the bucket has no other objects."""
    of_video: dict[str, dict[str, int]] = defaultdict(dict)
    for key, stored in seen.objects.items():
        if key == MARKER:
            continue
        match = OF_A_VIDEO.fullmatch(key)
        row = seen.rows.get(match["video_id"]) if match else None
        if match is None or row is None or not key.startswith(f"{row.prefix}/"):
            yield "orphans", Finding(match and match["video_id"], f"the object {key} belongs to no video")
        elif row.status == "deleted":
            yield "orphans", Finding(row.video_id, f"the object {key} belongs to a deleted video")
        else:
            of_video[row.video_id][match["name"]] = stored.bytes
    for row in seen.rows.values():
        if row.status == "ready":
            yield from _complete(row, seen, of_video[row.video_id])


def _complete(row: Row, seen: Snapshot, there: Mapping[str, int]) -> Found:
    segments = {segment.name: segment.bytes for segment in seen.segments_of(row.video_id)}
    needed = {MASTER, *(f"{name}/playlist.m3u8" for name in row.renditions), *segments}
    allowed = {*needed, THUMBNAIL, *(f"{name}/iframes.m3u8" for name in row.renditions)}
    if not segments:
        yield "damaged", Finding(row.video_id, "is ready without a single segment")
    for name in sorted(needed - there.keys()):
        yield "damaged", Finding(row.video_id, f"{name} is recorded, but not in storage")
    for name in sorted(there.keys() - allowed):
        yield "orphans", Finding(row.video_id, f"{name} is in storage, but not recorded")
    for name in sorted(segments.keys() & there.keys()):
        if there[name] != segments[name]:
            text = f"{name} has {there[name]} bytes in storage, {segments[name]} are recorded"
            yield "damaged", Finding(row.video_id, text)
    if row.bytes != sum(there.values()):
        text = f"has {sum(there.values())} bytes in storage, {row.bytes} are recorded"
        yield "damaged", Finding(row.video_id, text)


def files(seen: Snapshot, expected: Expected) -> Found:
    """The work volume or bucket has only needed files, apart from those of dead processes for the sweep."""
    made_by = {segment.directory for segment in seen.segments}
    for path in seen.files:
        match = FILE.fullmatch(path)
        row = seen.rows.get(match["video_id"]) if match else None
        if match is None:
            if path.startswith("uploads/"):
                yield _swept(expected), Finding(None, f"the unfinished upload {path}")
        elif row is None:
            yield _swept(expected), Finding(match["video_id"], f"the file {path} belongs to no video")
        elif row.status == "deleted":
            yield "orphans", Finding(row.video_id, f"the file {path} belongs to a deleted video")
        elif row.status == "ready" and not expected.keeps_local:
            yield _swept(expected), Finding(row.video_id, f"the file {path} is no longer needed")
        elif _is_abandoned(path, match["name"], made_by):
            yield _swept(expected), Finding(row.video_id, f"the file {path} was left by a dead process")


def scratch(seen: Snapshot, _: Expected) -> Found:
    """No process keeps files in its scratch while idle."""
    for path in seen.scratch:
        yield "orphans", Finding(None, f"a process keeps {path} in its scratch")


def _is_abandoned(path: str, name: str, made_by: set[str]) -> bool:
    """Tell whether a file is a partial source, or belongs to an attempt other than the recorded one."""
    if path.startswith("originals/"):
        return name.endswith(".part")
    return "/" in name and "/".join(path.split("/")[:3]) not in made_by


def uploads(seen: Snapshot, expected: Expected) -> Found:
    """No multipart upload is open."""
    for key in seen.uploads:
        yield ("open_uploads" if expected.sweeps else "unswept"), Finding(None, f"an open upload of {key}")


def at_rest(seen: Snapshot, expected: Expected) -> Found:
    """Nothing is waiting to be sent, handled, encoded or removed, and there is no live lease."""
    for message in seen.unsent:
        text = f"{message.routing_key} waits in the outbox, due since {message.due_seconds:.0f} s"
        yield "stuck", Finding(message.video_id, text)
    for queue, count in seen.waiting.items():
        if count:
            yield "stuck", Finding(None, f"{count} messages wait in {queue}")
    for row in seen.rows.values():
        if row.status == "deleted" and not row.is_purged:
            yield "stuck", Finding(row.video_id, "is deleted but not purged")
        if row.is_leased:
            yield "stuck", Finding(row.video_id, "has a live planning lease")
    for chunk in seen.chunks:
        status = seen.rows[chunk.video_id].status if chunk.video_id in seen.rows else "unknown"
        if status == "ready" and chunk.status != "stored":
            yield "stuck", Finding(chunk.video_id, f"is ready, but its chunk {chunk.chunk} is {chunk.status}")
        if chunk.is_leased:
            yield "stuck", Finding(chunk.video_id, f"has a live lease on chunk {chunk.chunk}")


def dead_letters(seen: Snapshot, expected: Expected) -> Found:
    """Dead letters are only those that the run caused."""
    for letter in seen.letters:
        if letter.body not in expected.dead_letters:
            text = f"{letter.queue} ({letter.reason}): {letter.body[:200]!r}"
            yield "foreign_dead_letters", Finding(None, text)


def _all(seen: Snapshot, expected: Expected) -> dict[str, Accepted]:
    """Return the accepted videos and those found only in the database, which must end as well."""
    others = {video_id: Accepted(video_id, ANY_END) for video_id in seen.rows}
    return {**others, **expected.accepted}


def _swept(expected: Expected) -> str:
    return "orphans" if expected.sweeps else "unswept"


def _told(row: Row, stored: int, failed: int) -> str:
    return f"is {row.status} in run {row.run}; {stored} video.stored and {failed} video.failed were announced"


def _either(outcomes: frozenset[str]) -> str:
    return " or ".join(sorted(outcomes))
