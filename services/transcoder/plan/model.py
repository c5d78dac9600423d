"""The plan: everything that any transcoder needs to encode any chunk of a video, as one JSON value."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction  # noqa: TC003 - pydantic reads the annotations
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import TypeAdapter

from services.transcoder.media import AudioAnchor, AudioTrack, VideoTrack, round_half_up  # noqa: TC001
from services.transcoder.plan.ladder import Rung  # noqa: TC001 - pydantic reads the annotations
from shared.hls.renditions import RenditionSet

if TYPE_CHECKING:
    from collections.abc import Mapping


VERSION: Final = 1


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
    audio_anchor: AudioAnchor | None = None


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

    def presentation(self) -> RenditionSet:
        """Return what playlists say of the video."""
        return RenditionSet(
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
