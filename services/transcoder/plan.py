"""The plan: everything that any transcoder needs to encode any chunk of a video, as one JSON value."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from math import ceil
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import TypeAdapter

from shared.playlists import Presentation

from .ladder import Rung  # noqa: TC001 - pydantic reads the annotations
from .source import Anchor, AudioTrack, VideoTrack  # noqa: TC001
from .timeline import (
    AUDIO_FRAME,
    AUDIO_RATE,
    cut_chunks,
    cut_segments,
    fine_enough,
    first_audio_frame,
    round_half_up,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .source import Source

VERSION: Final = 1
EARLY_AUDIO_SECONDS: Final = Fraction(1, 20)
LATE_AUDIO_SECONDS: Final = Fraction(1, 10)
# FFmpeg seeks 3/23 s too early where frames are reordered: ask for a moment that lands on the key frame.
LANDING_SECONDS: Final = Fraction(15, 100)
NEAR_SECONDS: Final = Fraction(3, 2)  # how far before a key frame to aim in a container without index
AUDIO_RUN_IN_SECONDS: Final = Fraction(1)
ANCHOR_SECONDS: Final = Fraction(35, 100)
ANCHOR_SPAN_SECONDS: Final = Fraction(1, 2)


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
    source's first picture. Segment k (from 1) starts at frame segment_starts[k - 1].
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
        video_seek_seconds=_as_seconds(_video_seek(source, plan, bounds[0])),
        audio_seek_seconds=_as_seconds(_audio_seek(source, plan, bounds[0])),
        audio_anchor=_audio_anchor(source, plan, bounds[0]),
    )


def _as_seconds(moment: Fraction | None) -> float | None:
    return None if moment is None else round(float(moment), 6)


def _video_seek(source: Source, plan: Plan, first_frame: int) -> Fraction | None:
    """Return the moment to ask for so that decoding begins at or before the picture of `first_frame`.

    One grid frame of safety is kept; where the container has no index, the aim is well before the key frame.
    """
    base, rate = plan.video.time_base, plan.rate
    wanted = first_frame - plan.lead_frames - 1
    if source.seeking == "none" or wanted <= 0:
        return None
    after = plan.video.first_pts + (wanted + Fraction(1, 2)) / (rate * base)
    picture = bisect_left(source.shown_pts, after) - 1
    key = bisect_right(source.key_pts, source.shown_pts[max(0, picture)]) - 1
    if key <= 0:
        return None
    key_moment = source.key_pts[key] * base
    if source.seeking == "near":
        return max(key_moment - NEAR_SECONDS, source.shown_pts[0] * base)
    return min(key_moment + LANDING_SECONDS, source.shown_pts[picture] * base + Fraction(1, 4) / rate)


def _audio_seek(source: Source, plan: Plan, first_frame: int) -> Fraction | None:
    if source.audio is None or source.seeking == "none":
        return None
    begin = _sound_begin(plan, first_frame)
    margin = AUDIO_RUN_IN_SECONDS + Fraction(source.audio.lead_seconds)
    margin += NEAR_SECONDS if source.seeking == "near" else 0
    moment = begin - margin
    return moment if moment > source.audio.start_seconds + margin else None


def _sound_begin(plan: Plan, first_frame: int) -> Fraction:
    """Return when the first AAC frame of a chunk begins, on the clock of the file."""
    frame = first_audio_frame(first_frame, plan.rate)
    return plan.zero_seconds + Fraction(frame * AUDIO_FRAME, AUDIO_RATE)


def _audio_anchor(source: Source, plan: Plan, first_frame: int) -> Anchor | None:
    """Return the audio frame to count from: after the seek point, before the chunk's run-in."""
    if source.sound_map is None or source.audio is None:
        return None
    before = _sound_begin(plan, first_frame) - ANCHOR_SECONDS
    rate = source.audio.sample_rate
    return source.sound_map.anchor_before(int(before * rate), int(ANCHOR_SPAN_SECONDS * rate))
