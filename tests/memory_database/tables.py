"""The tables of the twin: rows are dicts, and values are never changed in place."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from uuid import UUID

Row = dict[str, Any]

BEGIN = datetime(2026, 1, 2, 12, tzinfo=UTC)
NAMES = (
    "videos",
    "chunks",
    "segments",
    "outbox",
    "presets",
    "preferences",
    "storages",
    "user_storages",
    "storage_moves",
    "storage_move_objects",
    "api_keys",
    "playback_keys",
    "work_volume",
    "source_checks",
    "cache_purges",
)

NULL_IN_VIDEO = (
    "title",
    "filename",
    "qualities",
    "plan",
    "former_plan",
    "presentation",
    "plan_lease_until",
    "thumbnail_path",
    "duration_seconds",
    "width",
    "height",
    "error",
    "storage_type",
    "storage_id",
    "s3_bucket",
    "s3_key",
    "s3_public_url",
    "playlist_url",
    "thumbnail_url",
    "bytes",
    "artifacts",
    "swept_at",
    "purged_at",
    "source_report",
    "delivery",
    "ladder",
    "wished_storage",
    "original_bytes",
    "original_removed_at",
)
ZERO_IN_VIDEO = (
    "plan_attempt",
    "plan_tries",
    "resumes",
    "chunk_attempts",
    "token_generation",
    "auto_retries",
)

PRESETS = (
    ("1080p", 1080, 5_000_000),
    ("720p", 720, 2_800_000),
    ("480p", 480, 1_400_000),
    ("360p", 360, 800_000),
)


STATEMENTS: dict[str, Callable[..., Any]] = {}  # by file and name: `videos.get`


def statement(function: Callable[..., Any]) -> Callable[..., Any]:
    """Register the function of a statement; its name joins file and statement by two underscores."""
    STATEMENTS[function.__name__.replace("__", ".", 1)] = function
    return function


def as_json(value: Any) -> Any:
    """Return a value as it comes back from a column of type jsonb."""
    return json.loads(json.dumps(value))


@dataclass
class Tables:
    """All rows by table, and the clock that now() reads."""

    now: datetime = BEGIN
    rows: dict[str, list[Row]] = field(default_factory=lambda: {name: [] for name in NAMES})
    ids: Iterator[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        usual = {"audio_bps": 128_000, "rate_control": "quality", "quality": None, "profile": "balanced"}
        self.rows["presets"] = [
            {"name": name, "short_side": side, "video_bps": rate} | usual for name, side, rate in PRESETS
        ]
        own = {
            "kid": "own1",
            "alg": "HS256",
            "material": "0" * 64,
            "created_at": self.now,
            "retired_at": None,
        }
        self.rows["playback_keys"] = [own]

    def copy(self) -> dict[str, list[Row]]:
        """Return the rows as a transaction that is rolled back restores them."""
        return {name: [dict(row) for row in rows] for name, rows in self.rows.items()}

    def after(self, seconds: float) -> datetime:
        """Return now() + make_interval(secs => seconds)."""
        return self.now + timedelta(seconds=seconds)

    def is_future(self, time: datetime | None) -> bool:
        """Return coalesce(time > now(), false)."""
        return time is not None and time > self.now

    def find(self, table: str, is_wanted: Callable[[Row], bool] = lambda _: True, **equal: Any) -> list[Row]:
        """Return the rows whose columns have the given values and that `is_wanted` accepts."""
        return [
            row
            for row in self.rows[table]
            if all(row[name] == value for name, value in equal.items()) and is_wanted(row)
        ]

    def video(self, video_id: UUID, is_wanted: Callable[[Row], bool] = lambda _: True) -> Row | None:
        """Return the row of a video if it is wanted."""
        return next(iter(self.find("videos", is_wanted, video_id=video_id)), None)

    def chunk(self, video_id: UUID, chunk: int) -> Row | None:
        """Return the row of a chunk."""
        return next(iter(self.find("chunks", video_id=video_id, chunk=chunk)), None)

    def update_videos(self, rows: list[Row], **values: Any) -> int:
        """Change videos as the trigger touch_video sees it; return how many."""
        for row in rows:
            row.update(values, updated_at=self.now, revision=row["revision"] + 1)
        return len(rows)

    def update_video(self, row: Row | None, **values: Any) -> int:
        """Change one video, if there is one; return how many."""
        return self.update_videos([row] if row else [], **values)

    def delete(self, table: str, **equal: Any) -> int:
        """Delete rows; return how many."""
        gone = self.find(table, **equal)
        self.rows[table] = [row for row in self.rows[table] if all(row is not each for each in gone)]
        return len(gone)

    def insert_video(self, given: Mapping[str, Any]) -> None:
        """Insert a video with the defaults of its columns."""
        row: Row = dict.fromkeys(NULL_IN_VIDEO) | dict.fromkeys(ZERO_IN_VIDEO, 0)
        row |= {"status": "processing", "run": 1, "revision": 1, "visibility": "public"}
        row |= {"warnings": [], "coded_warnings": [], "renditions": [], "event_digests": []}
        row |= dict.fromkeys(("created_at", "updated_at", "processing_since"), self.now)
        self.rows["videos"].append(row | given)

    def insert_chunk(self, given: Mapping[str, Any]) -> None:
        """Insert a chunk with the defaults of its columns."""
        row = {
            "status": "pending",
            "tries": 0,
            "reopened": 0,
            "lease_until": None,
            "stored_until": None,
            "storing_until": None,
            "progress": 0.0,
            "codecs": None,
            "waiting_since": self.now,
        }
        self.rows["chunks"].append(row | given)

    def record(self, row: Row) -> Row:
        """Return a row of the view video_records."""
        chunks = self.find("chunks", video_id=row["video_id"])
        notes = [{"code": "note", "message": text} for text in row["warnings"]]
        return row | {
            "is_planned": row["plan"] is not None,
            "stage": _stage(row, chunks),
            "progress": _progress(row, chunks),
            "playable": row["status"] != "deleted" and (bool(row["renditions"]) or _has_first(chunks)),
            "coded_warnings": row["coded_warnings"] + notes,
            "storage_name": self.storage_name(row),
        }

    def storage_name(self, row: Row) -> str | None:
        """Return what the settings call the storage of a video."""
        found = self.find("storages", storage_id=row["storage_id"]) if row["storage_id"] else []
        return found[0]["label"] if found else None


def _stage(row: Row, chunks: list[Row]) -> str:
    if row["status"] in ("ready", "failed"):
        return "stored" if row["status"] == "ready" else row["error"]["stage"]
    if row["plan"] is None:
        return "plan"
    return "upload" if chunks and all(map(_is_encoded, chunks)) else "encode"


def _progress(row: Row, chunks: list[Row]) -> float:
    if row["status"] == "ready" or not chunks:
        return float(row["status"] == "ready")
    total = sum(each["seconds"] for each in chunks)
    encoded = sum(each["seconds"] * (1.0 if _is_encoded(each) else each["progress"]) for each in chunks)
    stored = sum(each["seconds"] for each in chunks if each["status"] == "stored")
    done, of = (Decimal(f"{value:.15g}") for value in (0.95 * encoded + 0.04 * stored, max(total, 0.001)))
    return float((done / of).quantize(Decimal("0.0001"), ROUND_HALF_UP))


def _is_encoded(chunk: Row) -> bool:
    return chunk["status"] in ("encoded", "stored")


def _has_first(chunks: list[Row]) -> bool:
    return any(each["chunk"] == 0 and each["status"] == "stored" for each in chunks)
