"""Errors for files that cannot become a video, from ffprobe's messages and stream lists; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.transcoder.ffmpeg.input import AUDIO_CODECS, AUDIO_FORMATS, SUBTITLE_CODECS, VIDEO_CODECS
from shared.errors import (
    CorruptSource,
    EncryptedSource,
    LimitsExceeded,
    NotAVideo,
    NoVideoStream,
    UnsupportedCodec,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.transcoder.ffmpeg.input import Limits
    from shared.errors import SourceError

    Json = Mapping[str, object]

REFUSED_CODEC: Final = re.compile(r"Codec \((\S+)\) not on whitelist")
NOT_OPENED: Final = re.compile(r"Could not open codec for input stream (\d+)")
REPEATED: Final = re.compile(r"^\s*Last message repeated \d+ times\n", re.MULTILINE)
DECODER_SAYS: Final = re.compile(r"^\[(\w+)[^\]]*\] ")
TOO_LARGE: Final = re.compile(r"Picture size (\d+)x(\d+) exceeds specified max pixel count (\d+)")
USAC: Final = "Audio object type 42"  # ISO/IEC 14496-3: xHE-AAC, which FFmpeg decodes from 7.1 on
USAC_NAME: Final = "xHE-AAC (USAC)"
REFUSED_FORMAT: Final = re.compile(r"\[(\S+)[^\]]*\] Format not on whitelist")
PLAYLISTS: Final = frozenset({"hls", "concat", "dash", "sdp", "rtsp", "imf"})
TEXTS: Final = frozenset({"tty", "srt", "ass", "webvtt", "subviewer", "microdvd", "jacosub", "mpl2", "lrc"})
DOLBY_VISION_ALONE: Final = 5
DOLBY_VISION_BY_BASE: Final = frozenset({9, 10})  # the compatibility id tells how other decoders see them
ENCRYPTED_TAGS: Final = frozenset({"encv", "enca", "drmi", "drms"})
MEDIA_START: Final = (b"\x1aE\xdf\xa3", b"FLV", b"RIFF", b"OggS", b"GIF8", b"0&\xb2u", b"\x00\x00\x01\xba")


def unreadable(stderr: str, head: bytes) -> SourceError:
    """Return the error for a file that could not be opened, from ffprobe's message and the first bytes."""
    refused = REFUSED_FORMAT.search(stderr)
    if refused:
        return NotAVideo(f"the file is {_kind(refused[1])}, not a video: send MP4, MOV, MKV, WebM or similar")
    if (video := _refused_video(stderr)) is not None:
        return video
    if "encrypt" in stderr.lower():
        return EncryptedSource("the video is encrypted (DRM): send a copy without protection")
    if "moov atom not found" in stderr and _looks_like_media(head):
        return CorruptSource(
            "the index (moov) is missing; the upload may be incomplete: send the whole file again"
        )
    if _looks_like_media(head):
        return CorruptSource("the file is damaged or incomplete and cannot be read: send it again")
    return NotAVideo("the file is not a video: its format is unknown")


def _refused_video(stderr: str) -> SourceError | None:
    """Return the error for pictures that are too large or a codec that is refused; None for others."""
    if large := TOO_LARGE.search(stderr):
        size = f"{large[1]}x{large[2]}"
        return LimitsExceeded(f"the picture has {size} pixels: at most {large[3]} are accepted")
    return _refused_codec(stderr)


def _refused_codec(stderr: str) -> UnsupportedCodec | None:
    """Return the error for a codec that is not allowed or cannot be opened; None for others."""
    unwanted, unopened = REFUSED_CODEC.search(stderr), unopened_codec(stderr)
    if unwanted:
        return UnsupportedCodec(f"the codec {unwanted[1]} is not supported: send H.264, HEVC, VP9 or AV1")
    if unopened is None:
        return None
    has = f"has the codec {unopened.codec} in a form" if unopened.codec else "has a codec"
    return UnsupportedCodec(
        f"track {unopened.index} {has} that cannot be decoded: convert that track"
        " (pictures to H.264, sound to AAC-LC), or leave it out"
    )


@dataclass(frozen=True, slots=True)
class Unopened:
    """The stream whose decoder did not start, its codec (empty if unknown), and the reason."""

    index: int
    codec: str
    why: str


def unopened_codec(stderr: str) -> Unopened | None:
    """Return the stream at which ffprobe stopped because its decoder did not start; None if there is none."""
    words = REPEATED.sub("", stderr)
    failed = NOT_OPENED.search(words)
    if failed is None:
        return None
    why = words[: failed.start()].rstrip("\n").rpartition("\n")[2]
    said = DECODER_SAYS.match(why)
    decoder = said[1] if said and said[1] in VIDEO_CODECS + AUDIO_CODECS + SUBTITLE_CODECS else ""
    codec = USAC_NAME if USAC in why else decoder
    return Unopened(int(failed[1]), codec, why)


def _kind(demuxer: str) -> str:
    name = demuxer.split(",", 1)[0]
    if name.endswith("_pipe") or name == "image2":
        return f"a still picture ({name.removesuffix('_pipe')})"
    if name in PLAYLISTS:
        return f"a playlist ({name})"
    return "a text" if name in TEXTS else f"of the format {name}, which is not accepted"


def _looks_like_media(head: bytes) -> bool:
    if not head.strip(b"\0"):
        return True  # zeros: a preallocated file without content
    return head[4:8] in {b"ftyp", b"moov", b"mdat", b"wide", b"free"} or head.startswith(MEDIA_START)


def check_streams(streams: Sequence[Json], container: str, packets: Sequence[Json], limits: Limits) -> None:
    """Raise an error if the streams (ffprobe's JSON) or first packets cannot become a video."""
    tracks = sum(
        stream.get("codec_type") in {"video", "audio"} and not is_cover(stream) for stream in streams
    )
    if tracks > limits.streams:
        raise LimitsExceeded(
            f"the file holds {tracks} tracks of pictures and sound; at most {limits.streams} are accepted"
        )
    if len(streams) - tracks > limits.attachments:
        raise LimitsExceeded(
            f"the file holds {len(streams) - tracks} subtitles and attachments; at most {limits.attachments}"
        )
    if not streams:
        raise CorruptSource("the file has a header but no stream: the upload may be incomplete")
    if any(_is_encrypted(stream) for stream in (*streams, *packets)):
        raise EncryptedSource("the video is encrypted (DRM): send a copy without protection")
    videos = [stream for stream in streams if stream.get("codec_type") == "video" and not is_cover(stream)]
    if not videos or container in AUDIO_FORMATS:
        raise NoVideoStream("the file has no video stream, only sound: send a file with a picture track")


def _is_encrypted(item: Json) -> bool:
    side_data = item.get("side_data_list", [])
    kinds = [str(data.get("side_data_type", "")) for data in side_data] if isinstance(side_data, list) else []
    return item.get("codec_tag_string") in ENCRYPTED_TAGS or any(
        kind.startswith("Encryption") for kind in kinds
    )


def is_cover(stream: Json) -> bool:
    """Return whether a video stream is a cover picture."""
    disposition = stream.get("disposition")
    return isinstance(disposition, dict) and bool(disposition.get("attached_pic"))


def is_accepted(stream: Json) -> bool:
    """Return whether the codec of `stream` (ffprobe's JSON) is supported."""
    accepted = VIDEO_CODECS if stream.get("codec_type") == "video" else AUDIO_CODECS
    name = str(stream.get("codec_name", "unknown"))
    return name in accepted or {"flv1": "flv", "dts": "dca", "msmpeg4v3": "msmpeg4"}.get(name) in accepted


def check_colours(stream: Json, pictures: Sequence[Json]) -> None:
    """Raise UnsupportedCodec if the colours need Dolby Vision: other decoders show them green.

    Profile 5 (and 10 without a compatible base layer) codes IPT instead of YCbCr. The container says so,
    or else the metadata of the pictures (FFmpeg guesses the profile from the same two fields).
    """
    records = [*_side_data(stream, "DOVI configuration record")]
    metadata = [data for picture in pictures for data in _side_data(picture, "Dolby Vision Metadata")]
    if any(_is_incompatible(record) for record in records) or (
        not records and any(_is_ipt(data) for data in metadata)
    ):
        raise UnsupportedCodec(
            "the colours are only readable with Dolby Vision (profile 5): send HDR10, HLG, SDR or Dolby "
            "Vision 8"
        )


def _side_data(item: Json, kind: str) -> list[Json]:
    found = item.get("side_data_list", [])
    return [data for data in found if data.get("side_data_type") == kind] if isinstance(found, list) else []


def _is_incompatible(record: Json) -> bool:
    profile, compatible = record.get("dv_profile"), record.get("dv_bl_signal_compatibility_id")
    return profile == DOLBY_VISION_ALONE or (profile in DOLBY_VISION_BY_BASE and compatible == 0)


def _is_ipt(metadata: Json) -> bool:
    return metadata.get("vdr_rpu_profile") == 0 and metadata.get("bl_video_full_range_flag") == 1
