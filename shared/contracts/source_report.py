"""The decision log of a video: what its source contains, what was decided about it, and why."""

from __future__ import annotations

from typing import Literal

from shared.contracts.model import Model

TrackKind = Literal["video", "audio", "subtitle", "data", "attachment"]
Topic = Literal["frame_rate", "timeline", "interlacing", "colour", "audio", "chunks"]


class TrackReport(Model):
    """One track of the source, and why it was used or ignored. `packets` is null if they were not counted."""

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


class RateFactor(Model):
    """A rendition's rate factor for this video, and the quality expected from samples.

    The `usual` values are the preset's defaults for any video.
    """

    rendition: str
    rate_factor: float
    vmaf_mean: float
    vmaf_p5: float
    usual_rate_factor: float
    usual_vmaf_mean: float


class QualityReport(Model):
    """The results of encoding short samples of the video with several rate factors.

    `saved_bytes` is the expected saving against the default rate factors, including omitted renditions;
    negative if the video needs more. `cpu_seconds` is the cost of the search.
    """

    metric: str
    samples: int
    cpu_seconds: float
    saved_bytes: int
    left_out: tuple[str, ...]
    renditions: tuple[RateFactor, ...]


class SourceReport(Model):
    """The source of a video and every decision behind its plan."""

    container: str
    bytes: int | None
    declared_seconds: float | None
    duration_seconds: float
    tracks: tuple[TrackReport, ...]
    decisions: tuple[Decision, ...]
    quality: QualityReport | None = None
