"""The chunk to check: its segments, clocks and frames; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.transcoder.content import commands
from services.transcoder.media import SEEKING
from shared.names import segment_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from services.transcoder.ffmpeg.runner import FfmpegRunner
    from services.transcoder.plan.model import Chunk, Plan

MAX_SAMPLES: Final = 3
SECONDS_A_SAMPLE: Final = 15


@dataclass(frozen=True, slots=True)
class Checked:
    """A chunk to check: its source and its segments."""

    plan: Plan
    chunk: Chunk
    source_path: str
    outdir: str
    decoded_on_gpu: bool = False
    runner: FfmpegRunner | None = None

    @property
    def segments(self) -> tuple[str, ...]:
        """The segments of the smallest rendition: all renditions come from the same pictures and sound."""
        first, folder = self.chunk.first_segment, Path(self.outdir, self.plan.rungs[-1].name)
        return tuple(str(folder / segment_name(first + number)) for number in range(self.chunk.segments))

    @property
    def begin_seconds(self) -> float:
        return float(self.chunk.first_frame / self.plan.rate)

    @property
    def end_seconds(self) -> float:
        return float(self.chunk.end_frame / self.plan.rate)

    @property
    def frames(self) -> range:
        return range(self.chunk.first_frame, self.chunk.end_frame)

    def segments_with(self, numbers: Iterable[int]) -> tuple[str, ...]:
        """Return the segments that contain the frames `numbers`."""
        bounds = (*self.plan.starts_in(self.chunk), self.chunk.end_frame)
        return tuple(
            path
            for path, begin, end in zip(self.segments, bounds, bounds[1:], strict=False)
            if any(begin <= number < end for number in numbers)
        )

    def frame_of(self, source_seconds: float) -> int:
        """Return the output frame for a moment of the source on the plan's clock."""
        return self.frame_at(self.output_seconds(source_seconds))

    def frame_at(self, seconds: float) -> int:
        """Return the output frame that shows a picture of that moment."""
        return math.floor(seconds * float(self.plan.rate) + 0.5)

    @property
    def starts_again(self) -> bool:
        """Whether the file's clock is valid only when read from the beginning."""
        time_map = self.plan.video.time_map
        return time_map is not None and len(time_map.sections) > 1

    def on_one_clock(self, seconds: float) -> float:
        """Convert a time of the file to the plan's clock."""
        video = self.plan.video
        if video.time_map is None:
            return seconds
        ticks = round(seconds / video.time_base)
        right = dict(video.time_map.corrections).get(ticks, ticks)
        return float(video.time_map.sections[0].apply(right) * video.time_base)

    def output_seconds(self, source_seconds: float) -> float:
        return source_seconds - float(self.plan.zero_seconds)


def moments_of(job: Checked) -> list[float | None]:
    """Return the sample times on the file's clock: a few, where decoding can start."""
    is_first = job.chunk.first_frame == 0
    has_keys = is_first and job.plan.longest_run_in_seconds < job.end_seconds
    is_read_through = job.chunk.video_seek_seconds is None and not has_keys
    if SEEKING.get(job.plan.container, "near") == "none" or job.starts_again or is_read_through:
        return [None] if is_first else []
    seconds = job.end_seconds - job.begin_seconds
    count = min(MAX_SAMPLES, 1 + int(seconds / SECONDS_A_SAMPLE))
    steps = ((number + 0.5) / count for number in range(count))
    moments = (job.plan.zero_seconds + Fraction(job.begin_seconds + seconds * step) for step in steps)
    return [float(commands.file_clock(job.plan, moment)) for moment in moments]
