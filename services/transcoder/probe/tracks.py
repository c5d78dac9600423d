"""From ffprobe's words and the measured packets to the facts of a source: pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from services.transcoder.media import SEEKING, AudioTrack, Source, VideoTrack
from services.transcoder.probe.audio_grid import find_audio_grid
from services.transcoder.probe.frame_rate import measure_grid
from services.transcoder.probe.packets import lead_ticks, restarts, without_spikes
from services.transcoder.probe.streams import (
    is_interlaced,
    read_aspect,
    read_colour,
    read_fraction,
    read_orientation,
)
from services.transcoder.probe.track_choice import index_of
from shared.errors import CorruptSource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.transcoder.media import FrameIndex
    from services.transcoder.probe.describe import Description
    from services.transcoder.probe.packets import PacketReader, Packets
    from services.transcoder.probe.track_choice import Choice

    Json = Mapping[str, Any]

MANY: Final = 10  # one packet in so many without a time of showing: go by the times of decoding
# Codecs with pictures that are only referred to, in packets of their own a tick or so before the next.
HIDING_CODECS: Final = frozenset({"vp8", "vp9", "av1"})
HIDDEN_PART: Final = 8  # such a one lasts less than this part of the usual time,
HIDDEN_SECONDS: Final = Fraction(1, 500)  # and no longer than this


@dataclass(frozen=True, slots=True)
class Findings:
    """All that ffprobe told of a source: chosen streams, first decoded pictures, packets."""

    description: Description
    choice: Choice
    pictures: Sequence[Json]
    reader: PacketReader
    frame_index: FrameIndex | None = None

    @property
    def video(self) -> Json:
        return self.choice.video

    @property
    def packets(self) -> Packets:
        """The packets of the chosen video."""
        return self.reader.of(index_of(self.video))


def build_source(found: Findings) -> Source:
    """Return the facts; raises CorruptSource where no picture has a timestamp."""
    packets = found.packets
    time_base = read_fraction(found.video["time_base"])
    if restarts(without_spikes(packets.dts, time_base), time_base):
        raise CorruptSource(
            "the file is several recordings in a row (its clock starts again): upload each alone"
        )
    shown = _shown(packets, found.pictures, time_base, may_hide=found.video["codec_name"] in HIDING_CODECS)
    if not shown:
        raise CorruptSource("the video stream holds no picture with a timestamp: the file is damaged")
    description = found.description
    several = sum(stream.get("codec_type") == "video" for stream in description.streams) > 1
    seeking = SEEKING.get(description.container, "near")
    return Source(
        container=description.container,
        # Matroska's index is that of another video stream if there are several.
        seeking="none" if several and description.container == "matroska" else seeking,
        video=_video_track(found, packets, shown),
        audio=_audio_track(found, time_base),
        shown_pts=shown,
        key_pts=sorted(set(packets.key_pts)),
        sound_map=found.frame_index,
        warnings=found.choice.warnings,
        tracks=found.choice.tracks,
        probe_bytes=description.probe_bytes,
    )


def _shown(packets: Packets, pictures: Sequence[Json], time_base: Fraction, *, may_hide: bool) -> list[int]:
    """Return the timestamps of the pictures that a decoder gives, ascending.

    Packets before the first decodable picture are left out. Where many packets have times of decoding
    only (AVI, program streams), all are shifted to what the decoder makes of them.
    """
    first = pictures[0].get("best_effort_timestamp")
    if isinstance(first, int) and packets.untimed * MANY > len(packets.pts):
        decoded = sorted(set(without_spikes(packets.dts, time_base)))
        return [time + first - decoded[0] for time in decoded]
    shown = sorted(set(without_spikes(packets.pts, time_base)))
    if may_hide:
        shown = _without_hidden(shown, time_base)
    return [time for time in shown if not isinstance(first, int) or time >= first] or shown


def _without_hidden(pts: list[int], time_base: Fraction) -> list[int]:
    """Leave out packets that show nothing: a tick or so before the next, however seldom pictures come."""
    if len(pts) < 3:
        return pts
    deltas = [after - before for before, after in pairwise(pts)]
    least = min(Fraction(median(deltas)) / HIDDEN_PART, HIDDEN_SECONDS / time_base)
    return [time for time, delta in zip(pts, deltas, strict=False) if delta > least] + pts[-1:]


def _video_track(found: Findings, packets: Packets, shown: Sequence[int]) -> VideoTrack:
    video, picture = found.video, found.pictures[0]
    time_base = read_fraction(video["time_base"])
    hints = [read_fraction(video.get("r_frame_rate")), read_fraction(video.get("avg_frame_rate"))]
    grid = measure_grid(shown, packets.last_duration, time_base, hints)
    return VideoTrack(
        index=int(video["index"]),
        codec=str(video["codec_name"]),
        width=int(picture["width"]),
        height=int(picture["height"]),
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
    )


def _audio_track(found: Findings, video_base: Fraction) -> AudioTrack | None:
    """Return the audio track, None if there is none or it holds no sound."""
    audio = found.choice.audio
    if audio is None or not found.reader.of(index_of(audio)).pts:
        return None
    packets = found.reader.of(index_of(audio))
    time_base, rate = read_fraction(audio["time_base"]), int(audio["sample_rate"])
    pts, codec = sorted(set(without_spikes(packets.pts, time_base))), str(audio["codec_name"])
    lead = lead_ticks(found.packets, packets, time_base / video_base)
    return AudioTrack(
        index=int(audio["index"]),
        codec=codec,
        sample_rate=rate,
        channels=int(audio.get("channels", 2)),
        start_seconds=pts[0] * time_base,
        end_seconds=(pts[-1] + max(0, packets.last_duration)) * time_base,
        lattice=find_audio_grid(pts, time_base, rate, codec),
        lead_seconds=round(float(lead * video_base), 3),
    )
