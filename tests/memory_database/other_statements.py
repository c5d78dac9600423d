"""The statements of the other .sql files in memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tests.memory_database.tables import as_json, statement
from tests.memory_database.videos import PLACE, pick, segments_in_storage

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime
    from uuid import UUID

    from tests.memory_database.tables import Row, Tables

KEY = ("key_id", "name", "scope", "user_id", "created_at", "revoked_at", "expires_at", "last_used_at")


@statement
def outbox__add(tables: Tables, *, message: Any, delay_seconds: float, **given: Any) -> int:
    row = {"id": next(tables.ids), "message": as_json(message), "sent_at": None}
    tables.rows["outbox"].append(row | {"available_at": tables.after(delay_seconds)} | given)
    return 1


def _due(tables: Tables) -> list[Row]:
    found = tables.find("outbox", lambda row: row["available_at"] <= tables.now, sent_at=None)
    return sorted(found, key=lambda row: (row["available_at"], row["id"]))


@statement
def outbox__take_due(tables: Tables, *, seconds: float, count: int) -> list[Row]:
    found = _due(tables)[:count]
    for row in found:
        row["available_at"] = tables.after(seconds)
    return [pick(row, "id", "exchange", "routing_key", "attempt", "message") for row in found]


def _update(rows: list[Row], **values: Any) -> int:
    for row in rows:
        row.update(values)
    return len(rows)


@statement
def outbox__give_back(tables: Tables, *, ids: Collection[int]) -> int:
    return _update(tables.find("outbox", lambda row: row["id"] in ids, sent_at=None), available_at=tables.now)


@statement
def outbox__mark_sent(tables: Tables, *, ids: Collection[int]) -> int:
    return _update(tables.find("outbox", lambda row: row["id"] in ids), sent_at=tables.now)


@statement
def outbox__forget_sent(tables: Tables) -> int:
    limit = tables.after(-86_400)
    old = tables.find("outbox", lambda row: row["sent_at"] is not None and row["sent_at"] < limit)
    return sum(tables.delete("outbox", id=row["id"]) for row in old)


@statement
def outbox__drop_unsent(tables: Tables, *, video_id: UUID) -> int:
    gone = tables.find("outbox", lambda row: row["exchange"] != "hls.events", video_id=video_id, sent_at=None)
    return sum(tables.delete("outbox", id=row["id"]) for row in gone)


@statement
def outbox__count_due(tables: Tables) -> int:
    return len(_due(tables))


@statement
def audit__ids_after(tables: Tables, *, after: UUID, count: int) -> list[Row]:
    found = tables.find("videos", lambda row: _is_settled(row) and row["video_id"] > after)
    return [pick(row, "video_id") for row in sorted(found, key=lambda row: row["video_id"])[:count]]


def _is_settled(row: Row) -> bool:
    return row["status"] in ("ready", "failed")


@statement
def audit__count_settled(tables: Tables) -> int:
    return len(tables.find("videos", _is_settled))


@statement
def audit__segments(tables: Tables, *, video_id: UUID) -> list[Row]:
    attempts = {row["chunk"]: row["attempt"] for row in tables.find("chunks", video_id=video_id)}
    names = ("rendition", "index", "chunk", "path", "duration_seconds", "bytes")
    found = segments_in_storage(tables, video_id)
    return [pick(row, *names) | {"attempt": attempts[row["chunk"]]} for row in found]


@statement
def audit__artifacts(tables: Tables, *, video_id: UUID) -> dict[str, int] | None:
    row = tables.video(video_id)
    return row["artifacts"] if row else None


@statement
def audit__source_bytes(tables: Tables, *, video_id: UUID) -> int | None:
    row = tables.video(video_id)
    return row["plan"].get("source_bytes") if row and row["plan"] else None


@statement
def audit__reopen_video(tables: Tables, *, video_id: UUID, revision: int) -> int:
    row = tables.video(video_id, lambda row: row["status"] == "ready" and row["revision"] == revision)
    if row is None:
        return 0
    new = {"run": row["run"] + 1, "plan_attempt": row["plan_attempt"] + 1, "plan_tries": 0, "resumes": 0}
    new |= {"plan_lease_until": None, "processing_since": tables.now}
    return tables.update_video(row, status="processing", **new)


@statement
def audit__touch_failed(tables: Tables, *, video_id: UUID, revision: int) -> int:
    row = tables.video(video_id, lambda row: row["status"] == "failed" and row["revision"] == revision)
    return tables.update_video(row)


def _stored(tables: Tables, video_id: UUID, chunks: Collection[int]) -> list[Row]:
    return tables.find("chunks", lambda row: row["chunk"] in chunks, video_id=video_id, status="stored")


@statement
def audit__store_again(tables: Tables, *, video_id: UUID, chunks: Collection[int]) -> int:
    reset = {"tries": 0, "lease_until": None, "stored_until": None, "waiting_since": tables.now}
    return _update(_stored(tables, video_id, chunks), status="encoded", **reset)


@statement
def audit__encode_again(tables: Tables, *, video_id: UUID, chunks: Collection[int]) -> int:
    reset = {"progress": 0.0, "tries": 0, "codecs": None, "lease_until": None, "stored_until": None}
    found = _stored(tables, video_id, chunks)
    return _update(found, status="pending", waiting_since=tables.now, **reset)


@statement
def ingest__insert_key(tables: Tables, **given: Any) -> Row:
    row = {"key_id": uuid4(), "created_at": tables.now, "revoked_at": None, "last_used_at": None} | given
    tables.rows["api_keys"].append(row)
    return pick(row, *KEY)


def _works(tables: Tables, row: Row) -> bool:
    return row["revoked_at"] is None and (row["expires_at"] is None or row["expires_at"] > tables.now)


@statement
def ingest__caller(tables: Tables, *, key_hash: bytes) -> Row | None:
    for row in tables.find("api_keys", lambda row: _works(tables, row), key_hash=key_hash):
        used = row["last_used_at"]
        is_unknown = used is None or used < tables.after(-60)
        return pick(row, "key_id", "scope", "user_id") | {"is_use_unknown": is_unknown}
    return None


@statement
def ingest__record_use(tables: Tables, *, key_id: UUID) -> int:
    return _update(tables.find("api_keys", key_id=key_id), last_used_at=tables.now)


@statement
def ingest__ended_keys(tables: Tables, *, key_ids: Collection[UUID]) -> list[Row]:
    found = tables.find("api_keys", lambda row: row["key_id"] in key_ids and not _works(tables, row))
    return [pick(row, "key_id") for row in found]


@statement
def ingest__list_keys(tables: Tables) -> list[Row]:
    found = sorted(tables.rows["api_keys"], key=lambda row: row["key_id"])
    return [pick(row, *KEY) for row in sorted(found, key=lambda row: row["created_at"], reverse=True)]


@statement
def ingest__revoke_key(tables: Tables, *, key_id: UUID) -> int:
    return _update(tables.find("api_keys", key_id=key_id, revoked_at=None), revoked_at=tables.now)


@statement
def ingest__states(tables: Tables, *, video_ids: Collection[UUID]) -> list[Row]:
    names = ("video_id", "revision", "status", "stage", "progress", "playable", "error")
    found = tables.find("videos", lambda row: row["video_id"] in video_ids)
    return [pick(tables.record(row), *names) for row in found]


@statement
def ownership__owners(tables: Tables, *, video_ids: Collection[UUID]) -> list[Row]:
    return [
        pick(row, "video_id", "user_id", "status", "thumbnail_path", *PLACE)
        | {"is_purged": row["purged_at"] is not None, "is_planned": row["plan"] is not None}
        | {"is_being_planned": tables.is_future(row["plan_lease_until"])}
        | {"is_being_moved": _is_being_moved(tables, row["video_id"])}
        for row in tables.find("videos", lambda row: row["video_id"] in video_ids)
    ]


def _is_being_moved(tables: Tables, video_id: UUID) -> bool:
    found = tables.find("storage_moves", video_id=video_id)
    return any(tables.is_future(row["lease_until"]) for row in found)


@statement
def ownership__attempts(tables: Tables, *, video_ids: Collection[UUID]) -> list[Row]:
    found = tables.find("chunks", lambda row: row["video_id"] in video_ids)
    return [
        pick(row, "video_id", "chunk", "status", "attempt")
        | {"is_alive": tables.is_future(row["lease_until"]) or tables.is_future(row["storing_until"])}
        | {"registered": _registered(tables, row["video_id"], row["chunk"])}
        for row in found
    ]


def _registered(tables: Tables, video_id: UUID, chunk: int) -> list[int]:
    paths = [row["path"] for row in tables.find("segments", video_id=video_id, chunk=chunk)]
    found = [re.match(r"chunks/[^/]+/[0-9]+-([0-9]+)/", path) for path in paths]
    return sorted({int(each[1]) for each in found if each})


@statement
def ownership__named_as_source(tables: Tables, *, video_id: UUID) -> bool:
    return bool(
        tables.find(
            "videos",
            lambda row: (
                row["status"] != "deleted"
                and row["video_id"] != video_id
                and str(video_id) in row["source_uri"]
            ),
        )
    )


@statement
def ownership__any_record(tables: Tables) -> bool:
    return bool(tables.rows["videos"])


@statement
def playback_keys__all_keys(tables: Tables) -> list[Row]:
    found = tables.find(
        "playback_keys", lambda row: row["retired_at"] is None or row["retired_at"] > tables.now
    )
    return [pick(row, "kid", "alg", "material") for row in _newest_first(found)]


def _newest_first(rows: list[Row]) -> list[Row]:
    return sorted(sorted(rows, key=lambda row: row["kid"]), key=lambda row: row["created_at"], reverse=True)


@statement
def playback_keys__list_registered(tables: Tables) -> list[Row]:
    found = _newest_first(tables.find("playback_keys", lambda row: row["alg"] != "HS256"))
    return [pick(row, "kid", "alg", "material", "created_at") for row in found]


@statement
def playback_keys__register(tables: Tables, *, kid: str, **given: Any) -> int:
    if tables.find("playback_keys", kid=kid):
        return 0
    tables.rows["playback_keys"].append({"kid": kid, "created_at": tables.now, "retired_at": None} | given)
    return 1


@statement
def playback_keys__remove(tables: Tables, *, kid: str) -> int:
    found = tables.find("playback_keys", lambda row: row["alg"] != "HS256", kid=kid)
    return tables.delete("playback_keys", kid=kid) if found else 0


@statement
def playback_keys__retire_own(tables: Tables, *, keep_seconds: float) -> int:
    found = tables.find("playback_keys", alg="HS256", retired_at=None)
    return _update(found, retired_at=tables.after(keep_seconds))


@statement
def playback_keys__add_own(tables: Tables, *, kid: str, material: str) -> int:
    return playback_keys__register(tables, kid=kid, alg="HS256", material=material)  # type: ignore[no-any-return]


@statement
def playback_keys__has_private_videos(tables: Tables) -> bool:
    return bool(tables.find("videos", visibility="private"))


@statement
def presets__all(tables: Tables) -> list[Row]:
    return sorted(tables.rows["presets"], key=lambda row: (-row["short_side"], row["name"]))


@statement
def presets__lock(tables: Tables) -> int:
    return 0


@statement
def presets__clear(tables: Tables) -> int:
    return tables.delete("presets")


@statement
def presets__insert(tables: Tables, **lists: Sequence[Any]) -> int:
    columns = ("name", "short_side", "video_bps", "audio_bps", "rate_control", "quality", "profile")
    given = ("names", "short_sides", "video_bps", "audio_bps", "rate_controls", "qualities", "profiles")
    for values in zip(*(lists[name] for name in given), strict=True):
        tables.rows["presets"].append(dict(zip(columns, values, strict=True)))
    return len(lists["names"])


@statement
def presets__preferences_of(tables: Tables, *, user_id: str) -> list[str] | None:
    names = {row["name"] for row in tables.rows["presets"]}
    for row in tables.find("preferences", user_id=user_id):
        return [quality for quality in row["qualities"] if quality in names]
    return None


@statement
def presets__set_preferences(tables: Tables, *, user_id: str, qualities: Sequence[str]) -> int:
    tables.delete("preferences", user_id=user_id)
    tables.rows["preferences"].append({"user_id": user_id, "qualities": [*qualities]})
    return 1


@statement
def presets__ladder_of(tables: Tables, *, video_id: UUID) -> Any:
    row = tables.video(video_id)
    return row["ladder"] if row else None


@statement
def stalled__find_stalled(tables: Tables, *, seconds: float, after: UUID, count: int) -> list[Row]:
    found = []
    for row in sorted(tables.rows["videos"], key=lambda row: row["video_id"]):
        silent = (tables.now - _active_at(tables, row)).total_seconds()
        is_open = row["status"] == "processing" or (row["status"] == "deleted" and row["purged_at"] is None)
        is_old = row["updated_at"] < tables.after(-seconds) and silent >= seconds
        waits = tables.find("outbox", video_id=row["video_id"], sent_at=None)
        if is_open and is_old and not waits and row["video_id"] > after:
            names = ("video_id", "status", "run", "resumes", "stage")
            found.append(pick(tables.record(row), *names) | {"stalled_seconds": silent})
    return found[:count]


def _active_at(tables: Tables, row: Row) -> datetime:
    times = [row["updated_at"], row["plan_lease_until"]]
    times += [each["lease_until"] for each in tables.find("chunks", video_id=row["video_id"])]
    times += [each["sent_at"] for each in tables.find("outbox", video_id=row["video_id"])]
    return max(time for time in times if time is not None)  # type: ignore[no-any-return]


@statement
def stalled__record_resume(
    tables: Tables, *, count: int, video_id: UUID, status: str, run: int, resumes: int
) -> int:
    found = tables.find("videos", video_id=video_id, status=status, run=run, resumes=resumes)
    return tables.update_videos(found, resumes=resumes + count)


@statement
def storages__is_ours(tables: Tables, *, storage_id: UUID) -> bool | None:
    for row in tables.find("storages", storage_id=storage_id):
        return bool(row["is_ours"])
    return None


@statement
def storages__add(tables: Tables, *, storage_id: UUID, **given: Any) -> int:
    if tables.find("storages", storage_id=storage_id):
        return 0
    tables.rows["storages"].append({"storage_id": storage_id, "label": None} | given)
    return 1


@statement
def storages__claim(tables: Tables, *, storage_id: UUID) -> int:
    return _update(tables.find("storages", storage_id=storage_id), is_ours=True)


@statement
def storages__label(tables: Tables, *, storage_id: UUID, label: str) -> int:
    changed = 0
    for row in tables.rows["storages"]:
        new = label if row["storage_id"] == storage_id else None if row["label"] == label else row["label"]
        changed += row["label"] != new
        row["label"] = new
    return changed


@statement
def storages__wish(tables: Tables, *, video_id: UUID) -> Row | None:
    if (row := tables.video(video_id)) is None:
        return None
    user = storages__storage_of_user(tables, user_id=row["user_id"])
    return {"upload": row["wished_storage"], "user": user, "visibility": row["visibility"]}


@statement
def storages__storage_of_user(tables: Tables, *, user_id: str) -> str | None:
    return next((row["storage"] for row in tables.find("user_storages", user_id=user_id)), None)


@statement
def storages__set_storage_of_user(tables: Tables, *, user_id: str, storage: str) -> int:
    tables.delete("user_storages", user_id=user_id)
    tables.rows["user_storages"].append({"user_id": user_id, "storage": storage})
    return 1


@statement
def storages__clear_storage_of_user(tables: Tables, *, user_id: str) -> int:
    return tables.delete("user_storages", user_id=user_id)


@statement
def storages__count_elsewhere(tables: Tables, *, storage_ids: Collection[UUID]) -> int:
    return len(
        tables.find(
            "videos",
            lambda row: row["status"] != "deleted" and row["storage_id"] not in (None, *storage_ids),
        )
    )


@statement
def storages__location(tables: Tables, *, video_id: UUID) -> Row | None:
    row = tables.video(video_id, lambda row: row["storage_type"] is not None)
    return pick(row, *PLACE) if row else None


@statement
def work_volume__volume_id(tables: Tables) -> UUID | None:
    return next((row["volume_id"] for row in tables.rows["work_volume"]), None)


@statement
def work_volume__adopt(tables: Tables, *, volume_id: UUID) -> int:
    tables.rows["work_volume"] = [{"volume_id": volume_id}]
    return 1


@statement
def work_volume__uploads(tables: Tables) -> list[Row]:
    def is_upload(row: Row) -> bool:
        uri, name = row["source_uri"], f"/originals/{row['video_id']}/source"
        return row["status"] in ("processing", "failed") and uri.startswith("file:") and uri.endswith(name)

    found = sorted(tables.find("videos", is_upload), key=lambda row: row["created_at"], reverse=True)
    return [pick(row, "video_id") for row in found[:20]]


@statement
def originals__bytes_of_user(tables: Tables, *, user_id: str) -> int:
    found = tables.find("videos", lambda row: row["status"] != "deleted", user_id=user_id)
    return sum(row["original_bytes"] or 0 for row in found if row["original_removed_at"] is None)


FAULTS_OF_FILES = ("no_video_stream", "not_a_video", "corrupt_source", "encrypted_source", "limits_exceeded")


@statement
def originals__of_failed(tables: Tables, *, seconds: float, count: int) -> list[Row]:
    def is_lost(row: Row) -> bool:
        if row["status"] != "failed" or row["error"]["retryable"] is not False:
            return False
        return row["error"]["reason"] in FAULTS_OF_FILES and row["updated_at"] < tables.after(-seconds)

    found = sorted(
        tables.find("videos", is_lost, original_removed_at=None), key=lambda row: row["updated_at"]
    )
    return [pick(row, "video_id") for row in found[:count]]


@statement
def originals__mark_removed(tables: Tables, *, video_ids: Collection[UUID]) -> int:
    def is_kept(row: Row) -> bool:
        return row["video_id"] in video_ids and row["status"] != "deleted"

    found = tables.find("videos", is_kept, original_removed_at=None)
    return tables.update_videos(found, original_removed_at=tables.now)


@statement
def imports__insert_video(tables: Tables, *, video_id: UUID, storage_id: UUID | None, **given: Any) -> int:
    if tables.video(video_id):
        return 0
    tables.insert_video(as_json(given) | {"video_id": video_id, "storage_id": storage_id, "status": "ready"})
    return 1


@statement
def imports__insert_chunk(tables: Tables, *, video_id: UUID, seconds: float, codecs: Any) -> int:
    stored = {"status": "stored", "progress": 1.0, "codecs": as_json(codecs), "attempt": 0}
    tables.insert_chunk({"video_id": video_id, "chunk": 0, "seconds": seconds} | stored)
    return 1
