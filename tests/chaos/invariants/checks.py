"""What is wrong with what is seen: pure functions, each yielding (kind, finding)."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from tests.chaos.invariants.values import KINDS, Accepted, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.chaos.invariants.values import Expected, Row, Seen

    Found = Iterator[tuple[str, Finding]]

TERMINAL = ("ready", "failed", "deleted")
ANY_END = frozenset(TERMINAL)
MARKER = "hls/vod-storage.json"  # by which the storage is known again
OF_A_VIDEO = re.compile(r"hls/[A-Za-z0-9_-]+/(?P<video_id>[0-9a-f-]{36})/(?P<name>.+)")
FILE = re.compile(r"(?P<place>originals|chunks)/(?P<video_id>[0-9a-f-]{36})/(?P<name>.+)")
MASTER, THUMBNAIL = "master.m3u8", "thumbnail.jpg"


def check(seen: Seen, expected: Expected) -> dict[str, list[Finding]]:
    """Return every finding that can be had without reading an object, by kind."""
    found: dict[str, list[Finding]] = {kind: [] for kind in KINDS}
    for look in (ends, told_once, objects, files, uploads, at_rest, dead_letters):
        for kind, finding in look(seen, expected):
            found[kind].append(finding)
    return found


def ends(seen: Seen, expected: Expected) -> Found:
    """Every accepted video has ended, and in a way that it was to end."""
    for video_id, wanted in _all(seen, expected).items():
        row = seen.rows.get(video_id)
        if row is None:
            yield "lost", Finding(video_id, "was accepted, but the database does not know it")
        elif row.status not in TERMINAL:
            yield "lost", Finding(video_id, f"has not come to an end: {row.status}")
        elif row.status not in wanted.outcomes:
            yield "lost", Finding(video_id, f"is {row.status} ({row.reason}), not {_either(wanted.outcomes)}")
        elif wanted.retries is not None and row.run - 1 > wanted.retries:
            yield "doubled", Finding(video_id, f"ran {row.run} times after {wanted.retries} retries")
        elif wanted.retries is not None and row.run - 1 < wanted.retries:
            yield "lost", Finding(video_id, f"ran {row.run} times after {wanted.retries} retries")


def told_once(seen: Seen, _: Expected) -> Found:
    """Every run of a video has told of its end exactly once; the same event id again is no second end."""
    told: dict[str, dict[str, str]] = defaultdict(dict)
    for event in seen.events:
        told[event.video_id][event.event_id] = event.kind
    for video_id in told.keys() - seen.rows.keys():
        yield "lost", Finding(video_id, "an event told of its end, but the database does not know it")
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


def objects(seen: Seen, expected: Expected) -> Found:
    """Ready videos have every object with its size and no other; nothing else lies in the bucket."""
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


def _complete(row: Row, seen: Seen, there: Mapping[str, int]) -> Found:
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


def files(seen: Seen, expected: Expected) -> Found:
    """The work volume holds what somebody needs; what a dead process left is for the sweep."""
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
            yield _swept(expected), Finding(row.video_id, f"the file {path} is needed no more")
        elif _is_abandoned(path, match["name"], made_by):
            yield _swept(expected), Finding(row.video_id, f"the file {path} was left by a dead process")


def _is_abandoned(path: str, name: str, made_by: set[str]) -> bool:
    """Tell whether a file is a draft of a source, or of an attempt that was not the one recorded."""
    if path.startswith("originals/"):
        return name.endswith(".part")
    return "/" in name and "/".join(path.split("/")[:3]) not in made_by


def uploads(seen: Seen, expected: Expected) -> Found:
    """No multipart upload is open."""
    for key in seen.uploads:
        yield ("open_uploads" if expected.sweeps else "unswept"), Finding(None, f"an open upload of {key}")


def at_rest(seen: Seen, expected: Expected) -> Found:
    """Nothing waits to be sent, taken, encoded or removed, and nobody holds a lease."""
    for message in seen.unsent:
        text = f"{message.routing_key} waits in the outbox, due since {message.due_seconds:.0f} s"
        yield "stuck", Finding(message.video_id, text)
    for queue, count in seen.waiting.items():
        if count:
            yield "stuck", Finding(None, f"{count} messages wait in {queue}")
    for row in seen.rows.values():
        if row.status == "deleted" and not row.is_purged:
            yield "stuck", Finding(row.video_id, "is deleted, but its traces are not removed for good")
        if row.is_leased:
            yield "stuck", Finding(row.video_id, "somebody holds the lease of its planning")
    for chunk in seen.chunks:
        status = seen.rows[chunk.video_id].status if chunk.video_id in seen.rows else "unknown"
        if status == "ready" and chunk.status != "stored":
            yield "stuck", Finding(chunk.video_id, f"is ready, but its chunk {chunk.chunk} is {chunk.status}")
        if chunk.is_leased:
            yield "stuck", Finding(chunk.video_id, f"somebody holds the lease of chunk {chunk.chunk}")


def dead_letters(seen: Seen, expected: Expected) -> Found:
    """Only what cannot be understood is among the dead letters."""
    for letter in seen.letters:
        if letter.body not in expected.dead_letters:
            text = f"{letter.queue} ({letter.reason}): {letter.body[:200]!r}"
            yield "foreign_dead_letters", Finding(None, text)


def _all(seen: Seen, expected: Expected) -> dict[str, Accepted]:
    """Return what was accepted; videos that only the database knows have to end as well."""
    others = {video_id: Accepted(video_id, ANY_END) for video_id in seen.rows}
    return {**others, **expected.accepted}


def _swept(expected: Expected) -> str:
    return "orphans" if expected.sweeps else "unswept"


def _told(row: Row, stored: int, failed: int) -> str:
    return (
        f"is {row.status} in run {row.run}; video.stored was told {stored} times, video.failed {failed} times"
    )


def _either(outcomes: frozenset[str]) -> str:
    return " or ".join(sorted(outcomes))
