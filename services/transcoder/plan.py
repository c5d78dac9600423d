"""The plan: everything that any transcoder needs to encode any chunk of a video, as one JSON value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from math import ceil
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import TypeAdapter

from shared.presentation import Presentation

from .ladder import Rung  # noqa: TC001 - pydantic reads the annotations
from .seek import audio_anchor, audio_seek, video_seek
from .source import Anchor, AudioTrack, VideoTrack  # noqa: TC001
from .timeline import (
    cut_chunks,
    cut_segments,
    fine_enough,
    round_half_up,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .source import Source

VERSION: Final = 1
EARLY_AUDIO_SECONDS: Final = Fraction(1, 20)
LATE_AUDIO_SECONDS: Final = Fraction(1, 10)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of whole segments (numbered from 1) and where to begin reading for it.

    Seek points are seconds on the clock of the file; None means from its beginning.
    """

    index: int
    first_segment: int
    segments: int
    first_frame: int
    end_frame: int
    video_seek_seconds: float | None
    audio_seek_seconds: float | None
    audio_anchor: Anchor | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """How one video is converted.

    Output frame n is shown n / rate seconds after output zero, which lies `lead_frames` before the
    source's first picture. Segment k (from 1) starts at frame segment_starts[k - 1]. `source_bytes` is the
    size of the file that was planned: another one in its place must not be encoded by this plan.
    """

    version: int
    container: str
    video: VideoTrack
    audio: AudioTrack | None
    rungs: tuple[Rung, ...]
    segment_seconds: Fraction
    lead_frames: int
    total_frames: int
    segment_starts: tuple[int, ...]
    chunks: tuple[Chunk, ...]
    warnings: tuple[str, ...] = ()
    source_bytes: int | None = None

    @property
    def rate(self) -> Fraction:
        """Frames a second in every rendition."""
        return self.video.rate

    @property
    def zero_seconds(self) -> Fraction:
        """Output zero on the clock of the file."""
        return self.video.start_seconds - self.lead_frames / self.rate

    @property
    def last_source_frame(self) -> int:
        """The output frame that shows the end of the source's last picture."""
        return self.lead_frames + self.video.frames - 1

    @property
    def duration_seconds(self) -> float:
        return float(self.total_frames / self.rate)

    @property
    def segment_frames(self) -> tuple[int, ...]:
        """How many frames each segment holds."""
        ends = (*self.segment_starts[1:], self.total_frames)
        return tuple(end - start for start, end in zip(self.segment_starts, ends, strict=True))

    @property
    def target_duration_seconds(self) -> int:
        """The longest segment, rounded (RFC 8216, 4.3.3.1)."""
        return max(1, *(round_half_up(frames / self.rate) for frames in self.segment_frames))

    def starts_in(self, chunk: Chunk) -> tuple[int, ...]:
        """Return the first frame of each segment of `chunk`."""
        first = chunk.first_segment - 1
        return self.segment_starts[first : first + chunk.segments]

    def chunk_seconds(self, index: int) -> float:
        """Return how long chunk `index` (from 0) lasts."""
        chunk = self.chunks[index]
        return float((chunk.end_frame - chunk.first_frame) / self.rate)

    @property
    def display_size(self) -> tuple[int, int]:
        """The source's size as shown: upright, square pixels."""
        width, height = self.video.display_size
        return round(width), round(height)

    def presentation(self) -> Presentation:
        """Return what playlists say of the video."""
        return Presentation(
            renditions=tuple((rung.name, rung.width, rung.height) for rung in self.rungs),
            frame_rate=float(self.rate),
            target_duration_seconds=self.target_duration_seconds,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the plan as a JSON object."""
        return cast("dict[str, Any]", _adapter().dump_python(self, mode="json"))

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Plan:
        """Return the plan that `to_json` wrote; raises ValueError for anything else."""
        plan = _adapter().validate_python(value)
        if plan.version != VERSION:
            raise ValueError(f"plan version {plan.version} is not {VERSION}: plan the video again")
        return plan


@cache
def _adapter() -> TypeAdapter[Plan]:
    return TypeAdapter(Plan)


def build_plan(
    source: Source, rungs: tuple[Rung, ...], segment_seconds: Fraction, chunk_seconds: Fraction
) -> Plan:
    """Return the plan for `source`: zero, end, segments, chunks and where to seek for each."""
    video = _finer(source.video, segment_seconds)
    lead = _lead_frames(video, source.audio)
    total = _total_frames(video, source.audio, lead)
    starts = cut_segments(total, video.rate, segment_seconds)
    plan = Plan(
        version=VERSION,
        container=source.container,
        video=video,
        audio=source.audio,
        rungs=rungs,
        segment_seconds=segment_seconds,
        lead_frames=lead,
        total_frames=total,
        segment_starts=starts,
        chunks=(),
        warnings=source.warnings,
    )
    runs = cut_chunks(len(starts), max(1, int(chunk_seconds / segment_seconds)))
    bounds = (*starts, total)
    chunks = (
        _chunk(source, plan, index, run.first_segment, bounds[run.first_segment : run.end_segment + 1])
        for index, run in enumerate(runs)
    )
    return replace(plan, chunks=tuple(chunks))


def _finer(video: VideoTrack, segment_seconds: Fraction) -> VideoTrack:
    rate = fine_enough(video.rate, segment_seconds)
    return replace(video, rate=rate, frames=round(video.frames * rate / video.rate))


def _lead_frames(video: VideoTrack, audio: AudioTrack | None) -> int:
    """Return for how many frames the first picture is held so that sound before it is kept."""
    early = video.start_seconds - audio.start_seconds if audio else Fraction(0)
    return ceil(early * video.rate) if early > EARLY_AUDIO_SECONDS else 0


def _total_frames(video: VideoTrack, audio: AudioTrack | None, lead: int) -> int:
    """Return where the output ends: with the last picture, or held until the sound is over."""
    end = video.start_seconds + video.frames / video.rate
    if audio is None or audio.end_seconds <= end + LATE_AUDIO_SECONDS:
        return lead + video.frames
    return lead + ceil((audio.end_seconds - video.start_seconds) * video.rate)


def _chunk(source: Source, plan: Plan, index: int, first_segment: int, bounds: tuple[int, ...]) -> Chunk:
    return Chunk(
        index=index,
        first_segment=first_segment + 1,
        segments=len(bounds) - 1,
        first_frame=bounds[0],
        end_frame=bounds[-1],
        video_seek_seconds=_as_seconds(video_seek(source, plan, bounds[0])),
        audio_seek_seconds=_as_seconds(audio_seek(source, plan, bounds[0])),
        audio_anchor=audio_anchor(source, plan, bounds[0]),
    )


def _as_seconds(moment: Fraction | None) -> float | None:
    return None if moment is None else round(float(moment), 6)
