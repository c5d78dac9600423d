"""The plan: everything a transcoder needs to encode any chunk of a video, as one JSON value."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from fractions import Fraction  # noqa: TC003 - pydantic reads the annotations
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import TypeAdapter, ValidationError

from services.transcoder.media import AudioAnchor, AudioTrack, VideoTrack, round_half_up  # noqa: TC001
from services.transcoder.plan.ladder import Rung  # noqa: TC001 - pydantic reads the annotations
from services.transcoder.plan.timeline import warm_up_frames
from services.transcoder.plan.versions import VERSION, OutdatedPlan, upgrade
from shared.contracts.cloudevents import explain
from shared.contracts.events import RenditionQuality
from shared.contracts.source_report import SourceReport  # noqa: TC001
from shared.contracts.warnings import VideoWarning  # noqa: TC001
from shared.hls.renditions import RenditionSet

if TYPE_CHECKING:
    from collections.abc import Mapping


FOR_PEOPLE: Final = ("warnings", "report")  # stored separately: encoders do not need them


@dataclass(frozen=True, slots=True)
class PacketCount:
    """The number of packets of a stream with times from `begin` to before `end` (ticks), read after a seek.

    `seek_seconds` None: from the beginning of the file.
    """

    stream: int
    seek_seconds: float | None
    end_seconds: float
    begin: int
    end: int
    packets: int


@dataclass(frozen=True, slots=True)
class ChunkReads:
    """The byte ranges of the source that a chunk needs besides the head of the file, and their packets."""

    spans: tuple[tuple[int, int], ...]
    counts: tuple[PacketCount, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of whole segments (numbered from 1) and where to start reading for it.

    Seek points are seconds on the file's clock; None: from the beginning. `run_in_seconds` is how much of the
    video has to be decoded before the chunk starts, and `warm_up_frames` how many frames before its first are
    encoded and dropped, so that rate control has seen what precedes the chunk. `reads` None: any part of the
    source may be needed.
    """

    index: int
    first_segment: int
    segments: int
    first_frame: int
    end_frame: int
    video_seek_seconds: float | None
    audio_seek_seconds: float | None
    audio_anchor: AudioAnchor | None = None
    run_in_seconds: float = 0.0
    reads: ChunkReads | None = None
    warm_up_frames: int = 0

    @property
    def encoded_from(self) -> int:
        """The first frame that is encoded."""
        return self.first_frame - self.warm_up_frames


@dataclass(frozen=True, slots=True)
class RestOfChunk(Chunk):
    """What is left of a chunk whose first segments an earlier attempt has handed over; read like the chunk.

    `audio_from` is the first AAC frame that is not in them.
    """

    audio_from: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """How one video is converted.

    Output frame n is shown n / rate seconds after output zero, which is `lead_frames` before the source's
    first picture. `segment_starts` are the first frames of the segments. `source_bytes` is the size of the
    planned file: a different file must not be encoded with this plan. `probe_bytes` is how far into the file
    to probe for streams. `head` is the part of the file read to open it; `is_searched`: FFmpeg seeks by
    searching, so that the file must have no holes.

    A claim returns one chunk's part of a plan: the plan with only that chunk, the one before, from which the
    tolerant strategy reads, and the starts of the chunk's segments. versions.py handles plans of other
    versions.
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
    source_bytes: int | None = None
    probe_bytes: int = 0
    longest_run_in_seconds: float = 0.0
    head: tuple[tuple[int, int], ...] = ()
    is_searched: bool = False
    warnings: tuple[VideoWarning, ...] = ()
    report: SourceReport | None = None

    @property
    def rate(self) -> Fraction:
        """Frames per second in every rendition."""
        return self.video.rate

    @property
    def zero_seconds(self) -> Fraction:
        """Output zero on the clock of the file."""
        return self.video.start_seconds - self.lead_frames / self.rate

    @property
    def last_source_frame(self) -> int:
        """The output frame at the start of the source's last picture."""
        return self.lead_frames + self.video.frames - self.video.tail_frames - 1

    @property
    def duration_seconds(self) -> float:
        return float(self.total_frames / self.rate)

    @property
    def segment_frames(self) -> tuple[int, ...]:
        """The number of frames in each segment; only correct for a whole plan, not for a part of one."""
        return tuple(end - start for start, end in pairwise((*self.segment_starts, self.total_frames)))

    @property
    def target_duration_seconds(self) -> int:
        """The longest segment, rounded (RFC 8216, 4.3.3.1)."""
        return max(1, *(round_half_up(frames / self.rate) for frames in self.segment_frames))

    def chunk(self, index: int) -> Chunk:
        """Return chunk `index` (from 0). Raises LookupError when the plan, or this part, has none."""
        found = [chunk for chunk in self.chunks if chunk.index == index]
        if not found:
            raise LookupError(f"the plan has no chunk {index}")
        return found[0]

    def part(self, index: int) -> Plan:
        """Return the part of the plan for chunk `index`."""
        chunks = tuple(chunk for chunk in self.chunks if index - 1 <= chunk.index <= index)
        return replace(self, chunks=chunks, segment_starts=self.starts_in(self.chunk(index)))

    def rest(self, chunk: Chunk, segments: int, audio_from: int) -> RestOfChunk:
        """Return `chunk` without its first `segments`, and without the sound before `audio_from`."""
        begin = self.starts_in(chunk)[segments]
        given = {field.name: getattr(chunk, field.name) for field in fields(Chunk)} | {
            "first_segment": chunk.first_segment + segments,
            "segments": chunk.segments - segments,
            "first_frame": begin,
            "run_in_seconds": chunk.run_in_seconds + float((begin - chunk.first_frame) / self.rate),
            "warm_up_frames": warm_up_frames(begin - chunk.encoded_from, self.rate),
        }
        return RestOfChunk(**given, audio_from=audio_from)

    def starts_in(self, chunk: Chunk) -> tuple[int, ...]:
        """Return the first frame of each segment of `chunk`."""
        return tuple(start for start in self.segment_starts if chunk.first_frame <= start < chunk.end_frame)

    def frames_in(self, chunk: Chunk) -> tuple[int, ...]:
        """Return how many frames each segment of `chunk` holds."""
        starts = self.starts_in(chunk)
        return tuple(end - start for start, end in pairwise((*starts, chunk.end_frame)))

    def seconds_in(self, chunk: Chunk) -> float:
        """Return how long `chunk` lasts."""
        return float((chunk.end_frame - chunk.first_frame) / self.rate)

    @property
    def display_size(self) -> tuple[int, int]:
        """The source's size as shown: upright, square pixels."""
        width, height = self.video.display_size
        return round(width), round(height)

    def presentation(self) -> RenditionSet:
        """Return the video's properties for playlists."""
        return RenditionSet(
            renditions=tuple((rung.name, rung.width, rung.height) for rung in self.rungs),
            frame_rate=float(self.rate),
            target_duration_seconds=self.target_duration_seconds,
            qualities=self._qualities(),
        )

    def _qualities(self) -> dict[str, RenditionQuality]:
        found = self.report.quality if self.report else None
        return {
            each.rendition: RenditionQuality(vmaf_mean=each.vmaf_mean, vmaf_p5=each.vmaf_p5)
            for each in (found.renditions if found else ())
        }

    def to_json(self) -> dict[str, Any]:
        """Return the plan as a JSON object, without the parts for humans."""
        value = cast("dict[str, Any]", _adapter().dump_python(self, mode="json"))
        return {name: part for name, part in value.items() if name not in FOR_PEOPLE}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Plan:
        """Return a plan, or a part of one, that this version or another stored.

        Raises OutdatedPlan when the video must be planned again, NewerPlan when a newer version must read it.
        """
        kept = {name: part for name, part in upgrade(value).items() if name not in FOR_PEOPLE}
        try:
            return replace(_adapter().validate_python(kept), version=VERSION)
        except ValidationError as error:
            raise OutdatedPlan(f"the plan cannot be read: {explain(error)}") from error


@cache
def _adapter() -> TypeAdapter[Plan]:
    return TypeAdapter(Plan)
