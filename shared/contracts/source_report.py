"""The decision log of a video: what its source contains, what was decided about it, and why."""

from __future__ import annotations

from typing import Literal

from shared.contracts.model import Model

TrackKind = Literal["video", "audio", "subtitle", "data", "attachment"]
Topic = Literal["frame_rate", "timeline", "interlacing", "colour", "audio", "chunks"]


class TrackReport(Model):
    """One track of the source, and why it was used or left out. `packets` is null where none were counted."""

    index: int
    kind: TrackKind
    codec: str
    used: bool
    reason: str
    packets: int | None = None
    width: int | None = None
    height: int | None = None
    channels: int | None = None
    sample_rate: int | None = None
    language: str | None = None


class Decision(Model):
    """One decision about the conversion: what was chosen, and why."""

    topic: Topic
    decision: str
    reason: str


class SourceReport(Model):
    """The source of a video and every decision behind its plan."""

    container: str
    bytes: int | None
    declared_seconds: float | None
    duration_seconds: float
    tracks: tuple[TrackReport, ...]
    decisions: tuple[Decision, ...]
