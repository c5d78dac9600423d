"""The statements of videos.sql in memory; each returns what the driver would: rows, a value, or a count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.memory_database.tables import NULL_IN_VIDEO, as_json, statement

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime
    from uuid import UUID

    from tests.memory_database.tables import Row, Tables

PLACE = ("storage_type", "s3_bucket", "storage_id")
OF_PLAN = ("chunks", "segment_starts")


def pick(row: Row, *names: str) -> Row:
    """Return some columns of a row."""
    return {name: row[name] for name in names}


@statement
def videos__insert(tables: Tables, *, video_id: UUID, digest: bytes, **given: Any) -> int:
    if tables.video(video_id):
        return 0
    tables.insert_video(as_json(given) | {"video_id": video_id, "event_digests": [digest]})
    return 1


@statement
def videos__get(tables: Tables, *, video_id: UUID) -> Row | None:
    row = tables.video(video_id)
    return tables.record(row) if row else None


@statement
def videos__list_newest(
    tables: Tables,
    *,
    user_id: str | None,
    status: str | None,
    before_time: datetime | None,
    before_id: UUID | None,
    count: int,
) -> list[Row]:
    def is_wanted(row: Row) -> bool:
        return (
            row["status"] != "deleted"
            and user_id in (None, row["user_id"])
            and status in (None, row["status"])
            and (before_time is None or (row["created_at"], row["video_id"]) < (before_time, before_id))
        )

    found = sorted(tables.find("videos", is_wanted), key=lambda row: (row["created_at"], row["video_id"]))
    return [tables.record(row) for row in found[::-1][:count]]


@statement
def videos__change(
    tables: Tables,
    *,
    video_id: UUID,
    sets_title: bool,
    sets_delivery: bool,
    visibility: str | None,
    **given: Any,
) -> int:
    wanted = {"title": given["title"]} if sets_title else {}
    wanted |= {"delivery": given["delivery"]} if sets_delivery else {}
    wanted |= {"visibility": visibility} if visibility else {}
    return tables.update_video(tables.video(video_id, _is_there), **wanted)


@statement
def videos__revoke_tokens(tables: Tables, *, video_id: UUID) -> int | None:
    row = tables.video(video_id, _is_there)
    tables.update_video(row, token_generation=row["token_generation"] + 1 if row else 0)
    return row["token_generation"] if row else None


@statement
def videos__lock_user(tables: Tables, *, user_id: str) -> int:
    return 1


@statement
def videos__count_processing(tables: Tables, *, user_id: str, most: int) -> int:
    return min(len(tables.find("videos", user_id=user_id, status="processing", renditions=[])), most)


@statement
def videos__save_plan(
    tables: Tables, *, video_id: UUID, attempt: int, warnings: Any, report: Any, **given: Any
) -> int:
    row = tables.video(video_id, lambda row: row["plan"] is None and _is_planning(row, attempt))
    wanted = {"coded_warnings": warnings, "source_report": report, "plan_lease_until": None}
    return tables.update_video(row, **as_json(given | wanted))


@statement
def videos__insert_chunks(tables: Tables, *, video_id: UUID, seconds: Sequence[float]) -> int:
    row = tables.video(video_id)
    assert row
    for chunk, each in enumerate(seconds):
        tables.insert_chunk(
            {"video_id": video_id, "chunk": chunk, "seconds": each, "attempt": row["chunk_attempts"]}
        )
    return len(seconds)


@statement
def videos__chunks_of(tables: Tables, *, video_id: UUID) -> list[Row]:
    return [pick(row, "chunk", "status", "attempt") for row in tables.find("chunks", video_id=video_id)]


@statement
def videos__claim_chunk(tables: Tables, *, video_id: UUID, chunk: int, lease_seconds: float) -> Row | None:
    video, row = tables.video(video_id, _is_processing), tables.chunk(video_id, chunk)
    if not video or not row:
        return None
    is_over = row["status"] == "encoding" and row["lease_until"] < tables.now
    if row["status"] != "pending" and not is_over:
        return None
    row.update(attempt=row["attempt"] + 1, tries=row["tries"] + 1, status="encoding", progress=0.0)
    row.update(lease_until=tables.after(lease_seconds))
    plan = _part(video["plan"], chunk)
    return (
        pick(row, "attempt", "tries") | pick(video, "user_id", "source_uri", "plan_attempt") | {"plan": plan}
    )


def _part(plan: Row, chunk: int) -> Row:
    """Return a plan with one of its chunks and the previous one, and the starts of its segments."""
    chunks, starts = plan.get("chunks", []), plan.get("segment_starts", [])
    mine = chunks[chunk] if chunk < len(chunks) else None
    first = mine["first_segment"] - 1 if mine else 0
    return plan | {
        "chunks": chunks[max(chunk - 1, 0) : chunk + 1],
        "segment_starts": starts[first : first + mine["segments"]] if mine else [],
    }


@statement
def videos__chunk_state(tables: Tables, *, video_id: UUID, chunk: int) -> Row | None:
    video, row = tables.video(video_id), tables.chunk(video_id, chunk)
    if not video or not row:
        return None
    left = max((row["lease_until"] - tables.now).total_seconds(), 0.0) if row["lease_until"] else 0.0
    return {"status": video["status"], "chunk_status": row["status"], "lease_left_seconds": left} | pick(
        row, "attempt"
    )


@statement
def videos__renew_chunk(
    tables: Tables, *, video_id: UUID, chunk: int, attempt: int, progress: float, lease_seconds: float
) -> int:
    row = held(tables, video_id, chunk, attempt, ("encoding",), is_processing=False)
    return _change(row, lease_until=tables.after(lease_seconds), progress=progress)


@statement
def videos__release_chunk(tables: Tables, *, video_id: UUID, chunk: int, attempt: int) -> int:
    [*found] = tables.find("chunks", video_id=video_id, chunk=chunk, attempt=attempt, status="encoding")
    return sum(
        _change(row, status="pending", tries=row["tries"] - 1, lease_until=None, progress=0.0)
        for row in found
    )


@statement
def videos__plan_without_chunks(tables: Tables, *, video_id: UUID) -> Row | None:
    row = tables.video(video_id)
    return row["plan"] | {name: [] for name in OF_PLAN} if row and row["plan"] is not None else None


@statement
def videos__lock_chunks(tables: Tables, *, video_id: UUID) -> list[Row]:
    found = tables.find("chunks", video_id=video_id)
    return [pick(row, "chunk", "attempt") | {"is_held": _is_leased(tables, row)} for row in found]


@statement
def videos__drop_plan(tables: Tables, *, video_id: UUID, plan_attempt: int, attempts: int) -> int:
    row = tables.video(video_id, lambda row: row["plan"] is not None and _is_planning(row, plan_attempt))
    if not row:
        return 0
    return tables.update_video(
        row,
        former_plan={name: value for name, value in row["plan"].items() if name not in OF_PLAN},
        plan=None,
        plan_attempt=plan_attempt + 1,
        plan_tries=0,
        plan_lease_until=None,
        chunk_attempts=max(row["chunk_attempts"], attempts),
    )


@statement
def videos__claim_plan(tables: Tables, *, video_id: UUID, lease_seconds: float) -> Row | None:
    row = tables.video(
        video_id,
        lambda row: (
            row["status"] == "processing"
            and row["plan"] is None
            and (row["plan_lease_until"] is None or row["plan_lease_until"] < tables.now)
        ),
    )
    if row is None:
        return None
    counts = {"plan_attempt": row["plan_attempt"] + 1, "plan_tries": row["plan_tries"] + 1}
    tables.update_video(row, **counts, plan_lease_until=tables.after(lease_seconds))
    return pick(row, "plan_attempt", "plan_tries", "former_plan")


@statement
def videos__renew_plan(tables: Tables, *, video_id: UUID, attempt: int, lease_seconds: float) -> int:
    row = tables.video(video_id, lambda row: row["plan"] is None and _is_planning(row, attempt))
    return tables.update_video(row, plan_lease_until=tables.after(lease_seconds))


@statement
def videos__release_plan(tables: Tables, *, video_id: UUID, attempt: int) -> int:
    row = tables.video(video_id, lambda row: row["plan"] is None and row["plan_attempt"] == attempt)
    return tables.update_video(row, plan_tries=row["plan_tries"] - 1 if row else 0, plan_lease_until=None)


@statement
def videos__run(tables: Tables, *, video_id: UUID) -> int | None:
    row = tables.video(video_id)
    return row["run"] if row else None


@statement
def videos__finish_chunk(tables: Tables, *, video_id: UUID, chunk: int, attempt: int, codecs: Any) -> int:
    row = held(tables, video_id, chunk, attempt, ("encoding",), is_processing=False)
    done = {"lease_until": None, "progress": 1.0, "waiting_since": tables.now}
    return _change(row, status="encoded", codecs=as_json(codecs), **done)


@statement
def videos__add_warnings(tables: Tables, *, video_id: UUID, warnings: Any) -> int:
    row = tables.video(video_id, _is_processing)
    missing = [each for each in as_json(warnings) if row and each not in row["coded_warnings"]]
    if not row or not missing:
        return 0
    return tables.update_video(row, coded_warnings=row["coded_warnings"] + missing)


@statement
def videos__clear_warning(tables: Tables, *, video_id: UUID, code: str) -> int:
    row = tables.video(video_id, lambda row: any(each["code"] == code for each in row["coded_warnings"]))
    return tables.update_video(row, coded_warnings=_without(row, code))


@statement
def videos__source_report(tables: Tables, *, video_id: UUID) -> Any:
    row = tables.video(video_id)
    return row["source_report"] if row else None


@statement
def videos__reopen_chunk(tables: Tables, *, video_id: UUID, chunk: int, attempt: int) -> int | None:
    for row in tables.find("chunks", video_id=video_id, chunk=chunk, attempt=attempt, status="encoded"):
        again = {"progress": 0.0, "codecs": None, "lease_until": None, "waiting_since": tables.now}
        _change(row, status="pending", reopened=row["reopened"] + 1, **again)
        return int(row["reopened"])
    return None


@statement
def videos__clear_segments(tables: Tables, *, video_id: UUID, chunk: int, paths: Sequence[str]) -> int:
    others = tables.find("segments", lambda row: row["path"] not in paths, video_id=video_id, chunk=chunk)
    return sum(tables.delete("segments", video_id=video_id, path=row["path"]) for row in others)


@statement
def videos__insert_segments(tables: Tables, *, video_id: UUID, chunk: int, **lists: Any) -> int:
    names = ("rendition", "index", "path", "duration_seconds", "bytes", "key_frames")
    given = ("renditions", "indexes", "paths", "durations", "sizes", "key_frames")
    columns = [as_json(lists[name]) for name in given]
    for values in zip(*columns, strict=True):
        row = {"video_id": video_id, "chunk": chunk} | dict(zip(names, values, strict=True))
        same = {name: row[name] for name in ("video_id", "rendition", "index")}
        [*former] = tables.find("segments", path=row["path"], is_stored=True, **same)
        tables.delete("segments", **same)
        tables.rows["segments"].append(row | {"is_stored": bool(former)})
    return len(columns[0])


@statement
def videos__chunk_for_storing(tables: Tables, *, video_id: UUID, chunk: int) -> Row | None:
    video, row = tables.video(video_id), tables.chunk(video_id, chunk)
    if not video or not row:
        return None
    left = max((row["storing_until"] - tables.now).total_seconds(), 0.0) if row["storing_until"] else 0.0
    about = {"chunk_status": row["status"], "attempt": row["attempt"], "storing_left_seconds": left}
    return pick(video, "status", "user_id") | about


@statement
def videos__segments_of_chunk(tables: Tables, *, video_id: UUID, chunk: int) -> list[Row]:
    found = tables.find("segments", video_id=video_id, chunk=chunk)
    found.sort(key=lambda row: (row["index"], row["rendition"]))
    return [pick(row, "rendition", "index", "path", "duration_seconds", "bytes") for row in found]


@statement
def videos__renew_store(
    tables: Tables, *, video_id: UUID, chunk: int, attempt: int, lease_seconds: float
) -> int:
    row = held(tables, video_id, chunk, attempt, ("encoded", "stored"), is_processing=True)
    return _change(row, lease_until=tables.after(lease_seconds))


@statement
def videos__chunk_stored(tables: Tables, *, video_id: UUID, chunk: int, attempt: int) -> int:
    row = held(tables, video_id, chunk, attempt, ("encoded",), is_processing=False)
    return _change(row, status="stored", tries=0, lease_until=None)


@statement
def videos__choose_storage(tables: Tables, *, video_id: UUID, **here: Any) -> Row | None:
    row = tables.video(video_id, _is_processing)
    if row is None:
        return None
    tables.update_video(row, **({} if row["storage_type"] else here))
    return pick(row, *PLACE)


@statement
def videos__reopen_stored(
    tables: Tables, *, video_id: UUID, renditions: Sequence[str], indexes: Sequence[int]
) -> list[Row]:
    if not tables.video(video_id, _is_processing):
        return []
    lost = set(zip(renditions, indexes, strict=True))
    segments = tables.find(
        "segments", lambda row: (row["rendition"], row["index"]) in lost, video_id=video_id
    )
    chunks = {row["chunk"] for row in segments}
    found = tables.find("chunks", lambda row: row["chunk"] in chunks, video_id=video_id, status="stored")
    for row in found:
        _change(row, status="encoded", lease_until=None, stored_until=None, waiting_since=tables.now)
    return [pick(row, "chunk") for row in found]


@statement
def videos__seconds_until_playable(tables: Tables, *, video_id: UUID) -> float | None:
    row = tables.video(video_id, lambda row: _is_processing(row) and not row["renditions"])
    return (tables.now - row["processing_since"]).total_seconds() if row else None


@statement
def videos__unstored_chunks(tables: Tables, *, video_id: UUID) -> int:
    return len(tables.find("chunks", lambda row: row["status"] != "stored", video_id=video_id))


def segments_in_storage(tables: Tables, video_id: UUID) -> list[Row]:
    """Return the segments of stored chunks, by rendition and index."""
    return _segments(tables, video_id, lambda chunk, _: bool(chunk["status"] == "stored"))


def _segments(tables: Tables, video_id: UUID, is_shown: Callable[[Row, Row], bool]) -> list[Row]:
    chunks = {row["chunk"]: row for row in tables.find("chunks", video_id=video_id)}
    found = tables.find("segments", lambda row: is_shown(chunks[row["chunk"]], row), video_id=video_id)
    return sorted(found, key=lambda row: (row["rendition"], row["index"]))


@statement
def videos__stored_segments(tables: Tables, *, video_id: UUID) -> list[Row]:
    found = _segments(
        tables,
        video_id,
        lambda chunk, row: chunk["status"] == "stored" or row["index"] <= (chunk["stored_until"] or 0),
    )
    return [pick(row, "rendition", "index", "duration_seconds", "bytes") for row in found]


@statement
def videos__key_frames(tables: Tables, *, video_id: UUID) -> list[Row]:
    return [
        pick(row, "rendition", "index", "key_frames") for row in tables.find("segments", video_id=video_id)
    ]


@statement
def videos__stored_codecs(tables: Tables, *, video_id: UUID) -> list[Row]:
    return [pick(row, "codecs") for row in tables.find("chunks", video_id=video_id, status="stored")]


@statement
def videos__mark_ready(
    tables: Tables, *, video_id: UUID, run: int, removes_original: bool, **given: Any
) -> int:
    row = tables.video(video_id, lambda row: row["status"] == "processing" and row["run"] == run)
    removed = {"original_removed_at": tables.now} if removes_original else {}
    return tables.update_video(row, status="ready", error=None, **as_json(given), **removed)


@statement
def videos__fail(tables: Tables, *, video_id: UUID, run: int, error: Any) -> str | None:
    row = tables.video(video_id, lambda row: row["status"] == "processing" and row["run"] == run)
    waiting = _without(row, "storage_waiting", "source_waiting")
    tables.update_video(row, status="failed", error=as_json(error), coded_warnings=waiting)
    return str(row["user_id"]) if row else None


@statement
def videos__retry(tables: Tables, *, video_id: UUID, is_automatic: bool) -> int:
    row = tables.video(video_id, _is_failed)
    if row is None or (row["original_removed_at"] and not row["renditions"] and is_upload(row)):
        return 0
    retries = row["auto_retries"] + 1 if is_automatic else 0
    return tables.update_video(row, **_new_run(tables, row), error=None, auto_retries=retries)


@statement
def videos__failed_for(
    tables: Tables,
    *,
    reason: str,
    after: UUID,
    count: int,
    max_auto_retries: int | None,
    without: Collection[str],
) -> list[Row]:
    def is_wanted(row: Row) -> bool:
        return (
            row["status"] == "failed"
            and row["error"]["reason"] == reason
            and row["video_id"] > after
            and (max_auto_retries is None or row["auto_retries"] < max_auto_retries)
            and (tables.storage_name(row) or row["wished_storage"] or "default") not in without
        )

    found = sorted(tables.find("videos", is_wanted), key=lambda row: row["video_id"])
    return [pick(row, "video_id") for row in found[:count]]


@statement
def videos__forget_tries(tables: Tables, *, video_id: UUID) -> int:
    if not tables.video(video_id, _is_failed):
        return 0
    new = {"tries": 0, "reopened": 0, "waiting_since": tables.now}
    return sum(_change(row, **new) for row in tables.find("chunks", video_id=video_id))


@statement
def videos__swept_at(tables: Tables, *, video_id: UUID) -> datetime | None:
    row = tables.video(video_id)
    return row["swept_at"] if row else None


@statement
def videos__delete(tables: Tables, *, video_id: UUID) -> int:
    return tables.update_video(tables.video(video_id, _is_there), status="deleted")


@statement
def videos__live_leases(tables: Tables, *, video_id: UUID) -> int:
    chunks = tables.find("chunks", video_id=video_id, status="encoding")
    leases = [row["lease_until"] for row in chunks]
    leases += [row["storing_until"] for row in tables.find("chunks", video_id=video_id)]
    leases += [row["plan_lease_until"] for row in tables.find("videos", video_id=video_id)]
    leases += [row["lease_until"] for row in tables.find("storage_moves", video_id=video_id)]
    return sum(map(tables.is_future, leases))


@statement
def videos__mark_swept(tables: Tables, *, video_id: UUID) -> int:
    row = tables.video(video_id, lambda row: row["status"] == "deleted")
    return tables.update_video(row, swept_at=tables.now)


@statement
def videos__purge(tables: Tables, *, video_id: UUID) -> int:
    row = tables.video(video_id, lambda row: row["status"] == "deleted")
    gone = dict.fromkeys(
        ("title", "filename", "plan", "former_plan", "presentation", "source_report", "error")
    )
    empty: Row = {"source_uri": "", "renditions": [], "warnings": [], "coded_warnings": []}
    return tables.update_video(row, purged_at=tables.now, **gone, **empty)


@statement
def videos__delete_segments(tables: Tables, *, video_id: UUID) -> int:
    return tables.delete("segments", video_id=video_id)


@statement
def videos__delete_chunks(tables: Tables, *, video_id: UUID) -> int:
    return tables.delete("chunks", video_id=video_id)


@statement
def videos__lock_for_event(
    tables: Tables, *, video_id: UUID, user_id: str, source_uri: str, digest: bytes
) -> Row | None:
    row = tables.video(video_id)
    if row is None:
        return None
    is_same = (row["user_id"], row["source_uri"]) == (user_id, source_uri)
    is_old = not row["event_digests"] and (row["status"] == "deleted" or is_same)
    leases = [
        row["plan_lease_until"],
        *(each["lease_until"] for each in tables.find("chunks", video_id=video_id)),
    ]
    return pick(row, "status", "storage_type", "source_uri") | {
        "is_purged": row["purged_at"] is not None,
        "is_known": digest in row["event_digests"] or is_old,
        "is_held": any(map(tables.is_future, leases)),
    }


@statement
def videos__begin_anew(tables: Tables, *, video_id: UUID, digest: bytes, **given: Any) -> int:
    row = tables.video(video_id)
    if row is None:
        return 0
    attempts = [each["attempt"] for each in tables.find("chunks", video_id=video_id)]
    gone = dict.fromkeys(set(NULL_IN_VIDEO) - {"qualities", "filename", "delivery", "ladder"})
    return tables.update_video(
        row,
        **gone | _new_run(tables, row) | as_json(given),
        event_digests=[*row["event_digests"], digest],
        warnings=[],
        coded_warnings=[],
        renditions=[],
        auto_retries=0,
        token_generation=row["token_generation"] + 1,
        chunk_attempts=max(row["chunk_attempts"], *attempts, 0),
    )


def _new_run(tables: Tables, row: Row) -> Row:
    """Return what a new run changes: planners of the earlier one are fenced off."""
    return {
        "status": "processing",
        "run": row["run"] + 1,
        "plan_attempt": row["plan_attempt"] + 1,
        "plan_tries": 0,
        "plan_lease_until": None,
        "resumes": 0,
        "processing_since": tables.now,
    }


def _is_leased(tables: Tables, chunk: Row) -> bool:
    return tables.is_future(chunk["lease_until"]) or tables.is_future(chunk["storing_until"])


def held(
    tables: Tables,
    video_id: UUID,
    chunk: int,
    attempt: int,
    statuses: tuple[str, ...],
    *,
    is_processing: bool,
) -> Row | None:
    """Return a chunk of an attempt in one of the states, of a video that is processing or not deleted."""
    video, row = tables.video(video_id), tables.chunk(video_id, chunk)
    if not video or not row or row["attempt"] != attempt or row["status"] not in statuses:
        return None
    is_wanted = video["status"] == "processing" if is_processing else video["status"] != "deleted"
    return row if is_wanted else None


def _change(row: Row | None, **values: Any) -> int:
    if row is not None:
        row.update(values)
    return int(row is not None)


def is_upload(row: Row) -> bool:
    """Tell whether the source of a video is its own uploaded original."""
    return row["source_uri"].startswith("file:") and f"/originals/{row['video_id']}/" in row["source_uri"]


def _is_there(row: Row) -> bool:
    return bool(row["status"] != "deleted")


def _is_processing(row: Row) -> bool:
    return bool(row["status"] == "processing")


def _is_failed(row: Row) -> bool:
    return bool(row["status"] == "failed")


def _is_planning(row: Row, attempt: int) -> bool:
    return _is_processing(row) and bool(row["plan_attempt"] == attempt)


def _without(row: Row | None, *codes: str) -> list[Row]:
    return [each for each in row["coded_warnings"] if each["code"] not in codes] if row else []
