"""Inputs and results of the checks: frozen values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# `unswept` is left for the sweep by age; where no sweep runs it is reported, not counted as a failure.
KINDS = (
    *("lost", "doubled", "orphans", "damaged", "stuck"),
    *("foreign_dead_letters", "open_uploads", "unswept", "playback"),
)
NO_BLAME = ("unswept",)


@dataclass(frozen=True)
class Accepted:
    """An accepted video, and how it may end.

    `frames` is the number of frames of its clip, `retries` how many retries were answered with 202; None:
    unknown.
    """

    video_id: str
    outcomes: frozenset[str] = frozenset({"ready"})
    frames: int | None = None
    retries: int | None = None


@dataclass(frozen=True)
class Expected:
    """The expected state. `sweeps`: the product removes old orphans.

    `keeps_local`: originals and encoded chunks stay on the work volume when a video is ready.
    """

    accepted: Mapping[str, Accepted] = field(default_factory=dict)
    dead_letters: frozenset[bytes] = frozenset()
    keeps_local: bool = True
    sweeps: bool = False


@dataclass(frozen=True)
class Row:
    """A video's row; `run` starts at 1 and increases with each retry."""

    video_id: str
    user_id: str
    status: str
    run: int = 1
    reason: str | None = None
    bytes: int | None = None
    renditions: tuple[str, ...] = ()
    is_leased: bool = False
    is_purged: bool = False

    @property
    def prefix(self) -> str:
        return f"hls/{self.user_id}/{self.video_id}"


@dataclass(frozen=True)
class Chunk:
    """A chunk's row."""

    video_id: str
    chunk: int
    status: str
    is_leased: bool = False


@dataclass(frozen=True)
class Segment:
    """A segment's row; `directory` is that of the attempt that wrote it."""

    video_id: str
    rendition: str
    index: int
    bytes: int
    directory: str = ""

    @property
    def name(self) -> str:
        return f"{self.rendition}/segment_{self.index:03d}.ts"


@dataclass(frozen=True)
class Unsent:
    """An unsent message in the outbox."""

    video_id: str
    routing_key: str
    due_seconds: float


@dataclass(frozen=True)
class Stored:
    """An object in the bucket's listing."""

    bytes: int
    etag: str = ""


@dataclass(frozen=True)
class Event:
    """A terminal event as delivered by the broker."""

    event_id: str
    kind: str
    video_id: str
    reason: str | None = None


@dataclass(frozen=True)
class Letter:
    """A message in a dead letter queue."""

    queue: str
    body: bytes
    reason: str = ""


@dataclass(frozen=True)
class Snapshot:
    """The complete state at one moment."""

    rows: Mapping[str, Row] = field(default_factory=dict)
    chunks: tuple[Chunk, ...] = ()
    segments: tuple[Segment, ...] = ()
    unsent: tuple[Unsent, ...] = ()
    objects: Mapping[str, Stored] = field(default_factory=dict)
    uploads: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()
    events: tuple[Event, ...] = ()
    letters: tuple[Letter, ...] = ()
    waiting: Mapping[str, int] = field(default_factory=dict)

    def segments_of(self, video_id: str) -> list[Segment]:
        return [segment for segment in self.segments if segment.video_id == video_id]


@dataclass(frozen=True)
class Finding:
    """A violated invariant: the video, if known, and the evidence."""

    video_id: str | None
    evidence: str


@dataclass(frozen=True)
class Verdict:
    """All findings by kind; `played` counts completely decoded renditions."""

    findings: Mapping[str, tuple[Finding, ...]]
    videos: int
    played: int
    settled_seconds: float

    def with_findings(self, kind: str, findings: Sequence[Finding]) -> Verdict:
        """Return the verdict with more findings of a kind."""
        return replace(self, findings={**self.findings, kind: (*self.findings[kind], *findings)})

    @property
    def clean(self) -> bool:
        return not any(self.failures.values())

    @property
    def failures(self) -> dict[str, tuple[Finding, ...]]:
        return {kind: found for kind, found in self.findings.items() if kind not in NO_BLAME}

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of the report."""
        return {
            "videos": self.videos,
            "renditions_played": self.played,
            "settled_seconds": round(self.settled_seconds, 1),
            "findings": {
                kind: [asdict(finding) for finding in found] for kind, found in self.findings.items()
            },
        }
