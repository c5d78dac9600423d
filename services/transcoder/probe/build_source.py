"""Creates a Source from ffprobe's description and the packets; pure."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from services.transcoder.media import HIDING_CODECS, SEEKING, AudioTrack, Source, VideoTrack
from services.transcoder.probe.audio_frame_positions import find_audio_grid
from services.transcoder.probe.completeness import (
    Extent,
    Track,
    check_complete,
    declared_end,
    declared_packets,
    declared_tick,
    declares_tracks,
    find_damage,
    find_gaps,
    read_seconds,
)
from services.transcoder.probe.discontinuities import find_clock
from services.transcoder.probe.frame_rate import bound_frames, measure_grid
from services.transcoder.probe.packets import lead_ticks
from services.transcoder.probe.source_warnings import late_start, lost_places, reduced_rate, starts_late
from services.transcoder.probe.streams import (
    first_field,
    is_interlaced,
    read_aspect,
    read_colour,
    read_fraction,
    read_orientation,
)
from services.transcoder.probe.timestamps import wrong_times
from services.transcoder.probe.track_choice import index_of
from shared.errors import CorruptSource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.transcoder.media import FrameIndex, Seeking
    from services.transcoder.probe.discontinuities import Clock
    from services.transcoder.probe.ffprobe import Description
    from services.transcoder.probe.packets import PacketReader, Packets
    from services.transcoder.probe.track_choice import Choice
    from shared.contracts.warnings import VideoWarning

    Json = Mapping[str, Any]

MAX_LEAD_SECONDS: Final = (
    60.0  # the worst interleaving of real files: a larger lead means that a clock jumped
)
HIDDEN_PART: Final = 8  # such a packet lasts less than this fraction of the usual duration,
HIDDEN_SECONDS: Final = Fraction(1, 500)  # and at most this long


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """ffprobe's information about a source: chosen streams, first decoded pictures, packets.

    `missing_bytes` is how much of the file is missing according to its container, None if unknown.
    """

    description: Description
    choice: Choice
    pictures: Sequence[Json]
    reader: PacketReader
    frame_index: FrameIndex | None = None
    missing_bytes: int | None = None

    @property
    def video(self) -> Json:
        return self.choice.video

    @property
    def video_base(self) -> Fraction:
        """Seconds in a tick of the video."""
        return read_fraction(self.video["time_base"])

    @property
    def audio_packets(self) -> Packets | None:
        """The packets of the selected audio; None if there is none or they have no times."""
        audio = self.choice.audio
        packets = self.reader.of(index_of(audio)) if audio else None
        return packets if packets and packets.pts else None


def build_source(found: ProbeResult) -> Source:
    """Return the source. Raises CorruptSource if no picture has a timestamp, or most of it is missing."""
    packets, description, base = found.reader.of(index_of(found.video)), found.description, found.video_base
    audio, container = found.choice.audio, description.container
    audio_base = read_fraction(audio["time_base"]) if audio else base
    clock = find_clock(container, packets, base, found.audio_packets, audio_base)
    continuous = clock.pictures(packets)
    shown = _shown(continuous, found, clock)
    if not shown:
        raise CorruptSource("the video stream holds no picture with a timestamp: the file is damaged")
    video = _video_track(found, continuous, shown, clock)
    sound = _audio_track(found, clock, shown[0] if starts_late(continuous, shown, base) else None)
    extent = _extent(found, continuous, shown, clock)
    incomplete = check_complete(extent)
    pictures = Track([*shown, *([] if incomplete else declared_tick(found.video, container, base))], base)
    heard = _sounding(found, clock, audio_base, is_whole=not incomplete)
    return Source(
        container=container,
        seeking=_seeking(description, clock),
        video=video,
        audio=sound,
        shown_pts=shown,
        key_pts=sorted(set(continuous.key_pts)),
        sound_map=found.frame_index if clock.audio is None else None,
        warnings=(
            *found.choice.warnings,
            *clock.warnings,
            *late_start(continuous, shown, base),
            *reduced_rate(video, shown),
            *find_gaps(container, pictures, 1 / video.rate, heard),
            *_damage(found, clock, 1 / video.rate),
            *lost_places(is_damaged=found.reader.is_damaged),
            *incomplete,
        ),
        tracks=found.choice.tracks,
        declared_seconds=None if extent.declared_end is None else round(float(extent.declared_end), 3),
        probe_bytes=description.opening.probe_bytes,
    )


def _sounding(found: ProbeResult, clock: Clock, base: Fraction, *, is_whole: bool) -> Track | None:
    """Return the times of sound on the continuous clock."""
    packets, audio = found.audio_packets, found.choice.audio
    if packets is None or audio is None:
        return None
    end = declared_tick(audio, found.description.container, base) if is_whole else []
    return Track(sorted([*clock.sound(packets).pts, *end]), base)


def _seeking(description: Description, clock: Clock) -> Seeking:
    several = sum(stream.get("codec_type") == "video" for stream in description.streams) > 1
    # Matroska's index may belong to another video stream if there are several.
    if clock.starts_again or (several and description.container == "matroska"):
        return "none"
    return SEEKING.get(description.container, "near")


def _extent(found: ProbeResult, packets: Packets, shown: Sequence[int], clock: Clock) -> Extent:
    """Return the declared and the found extent of the pictures.

    A corrected clock cannot be compared with the declared end, which is on the file's clock.
    """
    base, container, stream = found.video_base, found.description.container, found.video
    steps = [after - before for before, after in pairwise(shown)]
    last = packets.last_duration or (round(median(steps)) if steps else 0)
    ends = declared_end(container, stream, found.description.format, shown[0] * base)
    end = (shown[-1] + last) * base
    return Extent(
        container=container,
        begin=shown[0] * base,
        end=end if declares_tracks(container, stream) else max(end, _last_end(found)),
        declared_end=ends if clock.video is None else None,
        declared_packets=declared_packets(container, stream),
        packets=packets.count,
        longest=max(steps, default=last) * base,
        missing_bytes=found.missing_bytes,
    )


def _last_end(found: ProbeResult) -> Fraction:
    """Return when the last packet of any stream ends, in seconds on the file's clock."""
    bases = {index_of(stream): read_fraction(stream.get("time_base")) for stream in found.description.streams}
    ends = (
        (max(packets.pts) + max(0, packets.last_duration)) * bases[index]
        for index, packets in found.reader.packets.items()
        if packets.pts and index in bases
    )
    return max(ends, default=Fraction(0))


def _damage(found: ProbeResult, clock: Clock, frame: Fraction) -> list[VideoWarning]:
    """Return damage found by the demuxer, except at joins of recordings."""
    if clock.video is not None:
        return []
    return find_damage(found.reader.of(index_of(found.video)).broken_dts, found.video_base, frame)


def _shown(packets: Packets, found: ProbeResult, clock: Clock) -> list[int]:
    """Return the timestamps of decodable pictures, ascending, on the continuous clock.

    Packets before the first decodable picture are omitted. If many packets have only decode times (AVI,
    program streams), all are shifted to the decoder's output times.
    """
    first = found.pictures[0].get("best_effort_timestamp")
    if isinstance(first, int) and clock.video is not None:
        first = clock.video.sections[0].apply(first)
    if isinstance(first, int) and packets.is_untimed:
        wrong = set(wrong_times(packets.dts, found.video_base))
        decoded = sorted({time for index, time in enumerate(packets.dts) if index not in wrong})
        return [time + first - decoded[0] for time in decoded]
    shown = sorted(set(packets.pts))
    if found.video["codec_name"] in HIDING_CODECS:
        shown = _without_hidden(shown, found.video_base)
    shown = [time for time in shown if not isinstance(first, int) or time >= first] or shown
    return shown if first_field(found.video, found.pictures) == "none" else shown[1::2] or shown


def _without_hidden(pts: list[int], time_base: Fraction) -> list[int]:
    """Remove packets without a visible picture: about one tick before the next, at any frame rate."""
    if len(pts) < 3:
        return pts
    deltas = [after - before for before, after in pairwise(pts)]
    least = min(Fraction(median(deltas)) / HIDDEN_PART, HIDDEN_SECONDS / time_base)
    return [time for time, delta in zip(pts, deltas, strict=False) if delta > least] + pts[-1:]


def _video_track(found: ProbeResult, packets: Packets, shown: Sequence[int], clock: Clock) -> VideoTrack:
    video, picture, time_base = found.video, found.pictures[0], found.video_base
    hints = [read_fraction(video.get("r_frame_rate")), read_fraction(video.get("avg_frame_rate"))]
    last_duration = packets.last_duration if clock.video else _last_duration(found, packets, shown)
    measured = measure_grid(shown, last_duration, time_base, hints)
    grid = bound_frames(measured, len(shown))
    field = first_field(video, found.pictures)
    return VideoTrack(
        index=int(video["index"]),
        codec=str(video["codec_name"]),
        width=int(picture["width"]),
        height=int(picture["height"]) * (1 if field == "none" else 2),
        sample_aspect=read_aspect(picture),
        orientation=read_orientation(video),
        pix_fmt=str(picture.get("pix_fmt", video.get("pix_fmt", "yuv420p"))),
        colour=read_colour(video, picture),
        interlaced=is_interlaced(found.pictures),
        time_base=time_base,
        rate=grid.rate,
        is_vfr=grid.is_vfr,
        first_pts=grid.first_pts,
        frames=grid.frames,
        time_map=clock.video,
        tail_frames=grid.tail_frames,
        first_field=field,
    )


def _last_duration(found: ProbeResult, packets: Packets, shown: Sequence[int]) -> int:
    """Return how long the last picture is shown (ticks): by its packet, or by where the track ends."""
    container, base, video = found.description.container, found.video_base, found.video
    ends = declared_end(container, video, found.description.format, shown[0] * base)
    if ends is None or found.missing_bytes or not _declares_track(found, packets):
        return packets.last_duration
    if container == "mov" and len(found.description.streams) == 1:  # the movie's length is the track's
        ends = max(ends, shown[0] * base + read_seconds(found.description.format.get("duration")))
    return max(packets.last_duration, round(ends / base) - shown[-1])


def _declares_track(found: ProbeResult, packets: Packets) -> bool:
    """Return whether the declared end belongs to the video and the video is complete."""
    if found.description.container == "mov":
        return packets.count == declared_packets("mov", found.video)
    of_track = "DURATION" in found.video.get("tags", {}) or found.choice.audio is None
    return found.description.container == "matroska" and of_track


def _audio_track(found: ProbeResult, clock: Clock, not_before: int | None) -> AudioTrack | None:
    """Return the audio track; None if there is none or it is empty.

    Audio before the picture `not_before` (ticks of the video) is omitted.
    """
    audio, packets = found.choice.audio, found.audio_packets
    if audio is None or packets is None:
        return None
    time_base, rate, codec = read_fraction(audio["time_base"]), int(audio["sample_rate"]), audio["codec_name"]
    wrong = set(wrong_times(packets.pts, time_base))
    continuous = clock.sound(packets)
    pts = sorted({time for index, time in enumerate(continuous.pts) if index not in wrong})
    start = pts[0] * time_base
    return AudioTrack(
        index=int(audio["index"]),
        codec=str(codec),
        sample_rate=rate,
        channels=len(found.choice.channels) or int(audio.get("channels", 2)),
        start_seconds=start if not_before is None else max(start, not_before * found.video_base),
        end_seconds=(pts[-1] + max(0, continuous.last_duration)) * time_base,
        lattice=find_audio_grid(pts, time_base, rate, str(codec)),
        time_map=clock.audio and clock.audio.scaled(time_base * rate),
        lead_seconds=_lead_seconds(found, packets.without(wrong), time_base),
        parts=found.choice.channels,
    )


def _lead_seconds(found: ProbeResult, audio: Packets, time_base: Fraction) -> float:
    """Return how many seconds audio is ahead of video of the same timestamp in the file."""
    base, video = found.video_base, found.reader.of(index_of(found.video))
    right = video.without(set(wrong_times(video.pts, base)))
    return min(MAX_LEAD_SECONDS, round(float(lead_ticks(right, audio, time_base / base) * base), 3))
