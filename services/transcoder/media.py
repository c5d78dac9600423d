"""The result of scanning a source: frozen values; pure."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.transcoder.byte_map import ByteMap
    from shared.contracts.source_report import TrackReport
    from shared.contracts.warnings import VideoWarning

Seeking = Literal["exact", "near", "none"]

# Changes in the colours of a stream: none, only the coding of pictures, or also the primaries.
ColourChange = Literal["none", "coding", "primaries"]

# Which field comes first where a decoder returns fields instead of frames; "none": it returns frames.
FirstField = Literal["none", "top", "bottom"]

# How to seek in a container: by index, by searching (approximate), or not at all.
SEEKING: Final[dict[str, Seeking]] = {"mov": "exact", "matroska": "exact", "gif": "none"}

# Codecs with separate packets for hidden reference pictures, about a tick before the next picture.
HIDING_CODECS: Final = frozenset({"vp8", "vp9", "av1"})

# Codecs whose decoders, begun between key frames, give no picture before one is complete: others give grey.
WAITS_FOR_COMPLETE: Final = frozenset({"h264"})

# Pixel layouts for which pictures of changing size can be scaled to one size.
SCALABLE_PIXELS: Final = ("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p")

FULL_RANGES: Final = frozenset({"pc", "jpeg", "full"})

# The filter that undoes an orientation, by the signs of the display matrix (a, b, c, d).
ORIENTATIONS: Final[dict[tuple[int, ...], tuple[str, ...]]] = {
    (1, 0, 0, 1): (),
    (-1, 0, 0, 1): ("hflip",),
    (1, 0, 0, -1): ("vflip",),
    (-1, 0, 0, -1): ("hflip", "vflip"),
    (0, 1, -1, 0): ("transpose=clock",),
    (0, -1, 1, 0): ("transpose=cclock",),
    (0, 1, 1, 0): ("transpose=cclock_flip",),
    (0, -1, -1, 0): ("transpose=clock_flip",),
}


@dataclass(frozen=True, slots=True)
class Colour:
    """The colour tags of a stream, with FFmpeg's names; empty if untagged."""

    range: str = ""
    primaries: str = ""
    transfer: str = ""
    matrix: str = ""

    @property
    def is_hdr(self) -> bool:
        return self.transfer in {"smpte2084", "arib-std-b67"}


@dataclass(frozen=True, slots=True)
class MapSection:
    """One recording within a source: `shift` is added to its times.

    `cuts` are (moment, removed), ascending: `removed` is subtracted from later times, and `moment` is the
    middle of the removed part. All in ticks, on the clock of the file.
    """

    shift: int
    cuts: tuple[tuple[int, int], ...] = ()

    def apply(self, time: int) -> int:
        """Return `time` on the continuous clock."""
        return time + self.shift - sum(removed for moment, removed in self.cuts if time > moment)

    def undo(self, time: int) -> int:
        """Return the time of the file that `apply` turns into `time`."""
        found = time - self.shift
        for moment, removed in self.cuts:
            found += removed if found >= moment - removed // 2 else 0
        return found


@dataclass(frozen=True, slots=True)
class TimeMap:
    """Maps the times of one stream to a continuous clock; all in ticks.

    A time more than `fall` below the one before it starts the next section. `corrections` are (wrong, right)
    times, both on the clock of the file. If there are any, `steps` are the first of the right times and their
    distance in ticks, and `leaps` (number, ticks) what is added from a picture on: later pictures are counted
    instead of timed, because a decoder that has seen a wrong time no longer follows later ones.
    """

    fall: int
    sections: tuple[MapSection, ...]
    corrections: tuple[tuple[int, int], ...] = ()
    steps: tuple[int, Fraction] | None = None
    leaps: tuple[tuple[int, int], ...] = ()

    def scaled(self, times: Fraction) -> TimeMap:
        """Return the same map for ticks that are `times` times shorter."""
        return TimeMap(
            fall=round(self.fall * times),
            sections=tuple(
                MapSection(
                    round(section.shift * times),
                    tuple(
                        (round(moment * times), round(removed * times)) for moment, removed in section.cuts
                    ),
                )
                for section in self.sections
            ),
            corrections=tuple((round(one * times), round(other * times)) for one, other in self.corrections),
        )

    def on_file_clock(self, time: int) -> int:
        """Return the file's time for `time`, for clocks without restarts."""
        return self.sections[0].undo(time)


@dataclass(frozen=True, slots=True)
class VideoTrack:
    """The selected video stream, and the constant-rate frame grid of its pictures.

    A picture with timestamp t (in units of `time_base`) is on grid frame
    round((t - first_pts) * time_base * rate), counted from the first picture.

    With a `time_map`, `first_pts` is on its continuous clock. The last picture is held for `tail_frames`
    beyond its own frame.

    `x264_build` is the encoder's build, where the decoder needs it: before build 151 x264 wrote 4:4:4
    differently, and a decoder that seeks does not see the build number at the start of the stream.
    `refresh_ticks` is how long after a seek no picture is complete, in streams with gradual refresh.
    `colours_change` says which colour properties differ between pictures.
    Where the decoder returns fields (`first_field`), a picture is a pair of them, at the time of the second.
    """

    index: int
    codec: str
    width: int
    height: int
    sample_aspect: Fraction
    orientation: tuple[str, ...]
    pix_fmt: str
    colour: Colour
    interlaced: bool
    time_base: Fraction
    rate: Fraction
    is_vfr: bool
    first_pts: int
    frames: int
    x264_build: int | None = None
    refresh_ticks: int = 0
    time_map: TimeMap | None = None
    tail_frames: int = 0
    colours_change: ColourChange = "none"
    first_field: FirstField = "none"

    @property
    def lines_times(self) -> int:
        """The number of lines of a frame divided by that of a decoded picture."""
        return 1 if self.first_field == "none" else 2

    @property
    def start_seconds(self) -> Fraction:
        """The time of grid frame 0, on the file's clock or on the continuous one of `time_map`."""
        return self.first_pts * self.time_base

    def on_file_clock(self, time: int) -> int:
        """Return the file's time for `time` (ticks)."""
        return self.time_map.on_file_clock(time) if self.time_map else time

    @property
    def is_turned(self) -> bool:
        """Whether width and height are swapped for upright display."""
        return any(name.startswith("transpose") for name in self.orientation)

    @property
    def display_size(self) -> tuple[Fraction, Fraction]:
        """Width and height as shown: upright and with square pixels."""
        wide, high = self.width * self.sample_aspect, Fraction(self.height)
        return (high, wide) if self.is_turned else (wide, high)


@dataclass(frozen=True, slots=True)
class AudioGrid:
    """A regular grid of audio frames: frame n starts at sample origin + n * step.

    Timestamps within `tolerance` samples of the grid differ only by the container's rounding or jitter.
    """

    origin: int
    step: int
    tolerance: int


@dataclass(frozen=True, slots=True)
class AudioAnchor:
    """An audio frame from which a chunk counts samples; all in samples on the file's clock.

    It is the first frame that starts after `after`; its timestamp is near `timed`, its exact start is
    `counted`.
    """

    after: int
    timed: int
    counted: int


@dataclass(frozen=True, slots=True)
class FrameIndex:
    """Starts of audio frames by timestamp and by counting, in samples; one item per frame."""

    timed: Sequence[int]
    counted: Sequence[int]

    def anchor_before(self, sample: int, span: int) -> AudioAnchor | None:
        """Return the frame to count from: the one with the clearest time within `span` before `sample`."""
        end = bisect_right(self.counted, sample)
        start = max(1, bisect_right(self.counted, sample - span))
        if end <= 1 or start >= end:
            return AudioAnchor(self.timed[0] - span, self.timed[0], self.counted[0]) if self.timed else None
        best = max(range(start, end), key=lambda index: self.timed[index] - self.timed[index - 1])
        middle = (self.timed[best - 1] + self.timed[best]) // 2
        return AudioAnchor(middle, self.timed[best], self.counted[best])


@dataclass(frozen=True, slots=True)
class ChannelTrack:
    """A mono track that is one channel of the sound, with FFmpeg's name of the channel."""

    index: int
    channel: str


@dataclass(frozen=True, slots=True)
class AudioTrack:
    """The selected audio stream; times on the file's clock, or on the continuous one of `time_map`.

    Where each channel has a track of its own, `parts` are those tracks, and the stream is one of them.
    """

    index: int
    codec: str
    sample_rate: int
    channels: int
    start_seconds: Fraction
    end_seconds: Fraction
    lattice: AudioGrid | None
    time_map: TimeMap | None = None  # in samples
    lead_seconds: float = 0.0  # how far audio is ahead of video of the same time in the file
    parts: tuple[ChannelTrack, ...] = ()

    def on_file_clock(self, moment: Fraction) -> Fraction:
        """Return the file's time for `moment` (seconds)."""
        if self.time_map is None:
            return moment
        return Fraction(self.time_map.on_file_clock(round(moment * self.sample_rate)), self.sample_rate)


@dataclass(frozen=True, slots=True)
class Source:
    """A scanned source: its tracks, and the timestamps of its pictures in presentation order."""

    container: str
    seeking: Seeking
    video: VideoTrack
    audio: AudioTrack | None
    shown_pts: Sequence[int]
    key_pts: Sequence[int]
    sound_map: FrameIndex | None = None
    warnings: tuple[VideoWarning, ...] = ()
    tracks: tuple[TrackReport, ...] = ()
    declared_seconds: float | None = None
    probe_bytes: int = 0  # how far into the file to probe for streams; 0: FFmpeg's default
    byte_map: ByteMap | None = None  # None: each chunk may need any part of the file


def round_half_up(value: Fraction) -> int:
    """Round to the nearest integer, halves away from zero as in FFmpeg's AV_ROUND_NEAR_INF."""
    return floor(value + Fraction(1, 2)) if value >= 0 else -floor(Fraction(1, 2) - value)
