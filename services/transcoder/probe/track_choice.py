"""Selects the tracks to convert, and explains why others are not used; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from services.transcoder.probe.channel_tracks import find_channels, mono_tracks
from services.transcoder.probe.rejections import is_accepted, is_cover
from shared.contracts.source_report import TrackReport
from shared.contracts.warnings import VideoWarning, WarningCode
from shared.errors import NoVideoStream, UnsupportedCodec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.transcoder.media import ChannelTrack
    from shared.contracts.source_report import TrackKind

    Json = Mapping[str, Any]

MAX_STILL_PICTURES: Final = 2
FEWER: Final = 20  # a track with this many times fewer packets than another of its type is stills, or empty
SECONDARY: Final = ("comment", "hearing_impaired", "visual_impaired", "descriptions", "dub")
KINDS: Final[dict[str, TrackKind]] = {
    "video": "video",
    "audio": "audio",
    "subtitle": "subtitle",
    "attachment": "attachment",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The selected streams (ffprobe's JSON), and why."""

    video: Json
    audio: Json | None
    tracks: tuple[TrackReport, ...]
    warnings: tuple[VideoWarning, ...]
    channels: tuple[ChannelTrack, ...] = ()  # where each channel of the sound has a track of its own

    @property
    def heard(self) -> tuple[int, ...]:
        """The tracks that are used separately: both of a stereo pair, or the selected one."""
        if len(self.channels) == 2:
            return tuple(track.index for track in self.channels)
        return () if self.audio is None else (index_of(self.audio),)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The streams of a file, their packet counts, and which belong to one programme."""

    streams: Sequence[Json]
    packets: Mapping[int, int]
    programmes: Sequence[frozenset[int]] = ()
    unopened: frozenset[int] = frozenset()  # streams whose decoder does not start
    silent: frozenset[int] = frozenset()  # silent audio streams
    container: str = ""

    def of_kind(self, kind: str) -> list[Json]:
        """Return the streams of one type, without covers."""
        return [one for one in self.streams if one.get("codec_type") == kind and not is_cover(one)]

    def count(self, stream: Json) -> int:
        return self.packets.get(index_of(stream), 0)

    def can_decode(self, stream: Json) -> bool:
        return is_accepted(stream) and index_of(stream) not in self.unopened

    def unsupported(self, stream: Json) -> str:
        """Describe a codec that cannot be decoded, at all or in the form used by the stream."""
        form = " in this form" if index_of(stream) in self.unopened else ""
        return f"codec ({codec_of(stream)}) is not supported{form}"


def index_of(stream: Json) -> int:
    return int(stream["index"])


def choose_tracks(found: Candidates) -> Choice:
    """Return the tracks to convert. Raises NoVideoStream, or UnsupportedCodec naming the codec."""
    video = choose_video(found)
    audio = choose_audio(found, video)
    tracks = [one for one in found.of_kind("audio") if found.can_decode(one) and found.count(one)]
    channels = find_channels(found.container, tracks, audio, found.silent) if audio else ()
    used = [stream for stream in (video, audio) if stream is not None]
    reports = tuple(_report(found, stream, used, channels) for stream in found.streams)
    unused = _unused_channels(found, tracks, audio, channels) if audio else []
    return Choice(video, audio, reports, (*_warnings(found, audio, reports, channels), *unused), channels)


def choose_video(found: Candidates) -> Json:
    """Return the video track: moving pictures before stills, then the default track, then the largest."""
    videos = found.of_kind("video")
    if not videos:
        raise NoVideoStream("the file has no video stream, only sound: send a file with a picture track")
    most = max(map(found.count, videos))

    def rank(video: Json) -> tuple[bool, bool, bool, int, int]:
        area = int(video.get("width", 0)) * int(video.get("height", 0))
        return (
            found.can_decode(video),
            area > 0,
            not _is_still(found.count(video), most),
            int(video.get("disposition", {}).get("default", 0)),
            area,
        )

    chosen = max(videos, key=rank)
    if not found.can_decode(chosen):
        raise UnsupportedCodec(f"the video {found.unsupported(chosen)}: send H.264, HEVC, VP9 or AV1")
    return chosen


def _is_still(packets: int, most: int) -> bool:
    return packets <= MAX_STILL_PICTURES < most or packets * FEWER < most


def choose_audio(found: Candidates, video: Json) -> Json | None:
    """Return a non-empty audio track of the video's programme: the default one, else the first."""
    usable = usable_audio(found, video)

    def rank(audio: Json) -> tuple[int, bool]:
        disposition = audio.get("disposition", {})
        return int(disposition.get("default", 0)), not any(disposition.get(name) for name in SECONDARY)

    return max(usable, key=rank, default=None)


def usable_audio(found: Candidates, video: Json) -> list[Json]:
    """Return the audio tracks that could be converted."""
    return [one for one in found.of_kind("audio") if _problem(found, one, video) is None]


def _problem(found: Candidates, audio: Json, video: Json) -> str | None:
    """Return why an audio track cannot be used; None if it can."""
    if not found.can_decode(audio):
        return f"its {found.unsupported(audio)}"
    if found.count(audio) == 0 or not int(audio.get("sample_rate", 0)):
        return "it has no content"
    if not _share_programme(found, audio, video):
        return "it belongs to a different programme than the picture"
    if index_of(audio) in found.silent:
        return "it is silent throughout, another track is not"
    most = max(found.count(one) for one in found.of_kind("audio") if found.can_decode(one))
    return "it is almost empty, another track is not" if found.count(audio) * FEWER < most else None


def _share_programme(found: Candidates, audio: Json, video: Json) -> bool:
    of_video = [programme for programme in found.programmes if index_of(video) in programme]
    return not of_video or any(index_of(audio) in programme for programme in of_video)


def codec_of(stream: Json) -> str:
    """Return the name of a stream's codec, or its tag if FFmpeg has no name for it."""
    name = str(stream.get("codec_name", "unknown"))
    return f"unknown, {stream.get('codec_tag_string', '?')}" if name in {"unknown", "none"} else name


def _report(
    found: Candidates, stream: Json, chosen: Sequence[Json], channels: Sequence[ChannelTrack]
) -> TrackReport:
    part = next((one.channel for one in channels if one.index == index_of(stream)), None)
    used = stream in chosen or part is not None
    reason = _used(found, stream) if used else _left_out(found, stream, chosen[0])
    tags = stream.get("tags", {})
    return TrackReport(
        index=index_of(stream),
        kind=KINDS.get(str(stream.get("codec_type")), "data"),
        codec=codec_of(stream),
        used=used,
        reason=f"{part} of the sound, whose channels have a track each" if part else reason,
        packets=found.packets.get(index_of(stream)),
        width=stream.get("width") or None,
        height=stream.get("height") or None,
        channels=stream.get("channels") or None,
        sample_rate=int(stream.get("sample_rate", 0)) or None,
        language=tags.get("language") if isinstance(tags, dict) else None,
    )


def _used(found: Candidates, stream: Json) -> str:
    kind = str(stream["codec_type"])
    if len(found.of_kind(kind)) == 1:
        return f"the only {kind} track"
    default = "marked as default" if stream.get("disposition", {}).get("default") else "the best of the rest"
    return f"{default}, of the {kind} tracks that can be decoded and have content"


def _left_out(found: Candidates, stream: Json, video: Json) -> str:
    kind = stream.get("codec_type")
    if kind == "audio":
        return _problem(found, stream, video) or "another audio track is preferred: one is converted"
    if kind != "video":
        return "only one video and one audio track are converted"
    if is_cover(stream):
        return "it is a cover picture"
    if not found.can_decode(stream):
        return f"its {found.unsupported(stream)}"
    if _is_still(found.count(stream), max(map(found.count, found.of_kind("video")))):
        return "it has a few still pictures, another track is moving video"
    return "another video track is the default one, or larger"


def _unused_channels(
    found: Candidates, tracks: Sequence[Json], audio: Json, channels: Sequence[ChannelTrack]
) -> list[VideoWarning]:
    """Return a warning where the sound has one track for each channel, and not all of them are used."""
    used = {index_of(audio), *(channel.index for channel in channels)}
    mono = [index_of(track) for track in mono_tracks(tracks, audio)]
    left = [index for index in mono if index not in used | found.silent]
    if found.container != "mxf" or not left:
        return []
    message = (
        f"each track holds one channel of sound: {_listed(sorted(used))} are converted,"
        f" {_listed(left)} are left out"
    )
    return [VideoWarning(code=WarningCode.AUDIO_TRACKS_LEFT_OUT, message=message)]


def _listed(indexes: Sequence[int]) -> str:
    return ", ".join(map(str, indexes))


def _warnings(
    found: Candidates,
    audio: Json | None,
    reports: Sequence[TrackReport],
    channels: Sequence[ChannelTrack],
) -> list[VideoWarning]:
    if audio is None:
        why = [f"track {one.index}: {one.reason}" for one in reports if one.kind == "audio"]
        message = f"the sound cannot be converted ({'; '.join(why)}): the video is silent"
        return [VideoWarning(code=WarningCode.AUDIO_LEFT_OUT, message=message)] if why else []
    defaults = [one for one in found.of_kind("audio") if one.get("disposition", {}).get("default")]
    if not defaults or audio in defaults or channels:
        return []
    default = next(one for one in reports if one.index == index_of(defaults[0]))
    message = f"the default audio track is not used ({default.reason}): track {index_of(audio)} replaces it"
    return [VideoWarning(code=WarningCode.AUDIO_TRACK_REPLACED, message=message)]
