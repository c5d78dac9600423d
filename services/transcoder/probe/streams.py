"""Read ffprobe's description of streams and first pictures: pure functions from JSON to facts."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from services.transcoder.media import ORIENTATIONS, Colour
from services.transcoder.probe.rejections import is_accepted, is_cover

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Json = Mapping[str, Any]

MATRIX_LINE: Final = re.compile(r"0000000[01]:\s+(-?\d+)\s+(-?\d+)")
ONE: Final = 1 << 16
MAX_ASPECT: Final = 20


def choose_video(streams: Sequence[Json]) -> Json:
    """Return the video stream to convert: no cover; of the rest the default one, then the largest."""
    videos = [stream for stream in streams if stream.get("codec_type") == "video" and not is_cover(stream)]
    return max(videos, key=lambda video: (_has_size(video), *_preference(video)))


def _has_size(stream: Json) -> bool:
    return int(stream.get("width", 0)) > 0


def _preference(stream: Json) -> tuple[int, int]:
    area = int(stream.get("width", 0)) * int(stream.get("height", 0))
    return int(stream.get("disposition", {}).get("default", 0)), area


def choose_audio(streams: Sequence[Json]) -> Json | None:
    """Return the audio stream to convert: the default one, else the first, of those that can be decoded."""
    audios = [stream for stream in streams if stream.get("codec_type") == "audio" and is_accepted(stream)]
    usable = [stream for stream in audios if int(stream.get("sample_rate", 0)) > 0]
    return max(usable, key=lambda audio: int(audio.get("disposition", {}).get("default", 0)), default=None)


def read_fraction(text: object) -> Fraction:
    """Return the fraction that ffprobe writes as "30000/1001" or "4:3"; 0 where it says nothing of use."""
    numerator, _, denominator = str(text or "").replace(":", "/").partition("/")
    try:
        return Fraction(int(numerator), int(denominator or 1))
    except (ValueError, ZeroDivisionError):
        return Fraction(0)


def read_aspect(stream: Json) -> Fraction:
    """Return the shape of a pixel, 1 where the stream says nothing or something absurd."""
    aspect = read_fraction(stream.get("sample_aspect_ratio"))
    return aspect if Fraction(1, MAX_ASPECT) <= aspect <= MAX_ASPECT else Fraction(1)


def read_orientation(stream: Json) -> tuple[str, ...]:
    """Return the filters that turn the picture upright; only quarter turns and mirrors are believed."""
    for data in stream.get("side_data_list", []):
        numbers = [
            int(number) for pair in MATRIX_LINE.findall(data.get("displaymatrix", "")) for number in pair
        ]
        if len(numbers) == 4:
            return ORIENTATIONS.get(tuple(map(_sign, numbers)), ())
    return ()


def _sign(number: int) -> int:
    return 0 if abs(number) < ONE // 50 else (number > 0) - (number < 0)


def read_colour(stream: Json, frame: Json) -> Colour:
    """Return the colour tags: of the decoded picture, else of the stream."""

    def tag(name: str) -> str:
        values = (str(place.get(name, "unknown")) for place in (frame, stream))
        return next((value for value in values if value not in {"unknown", "reserved", "unspecified"}), "")

    return Colour(tag("color_range"), tag("color_primaries"), tag("color_transfer"), tag("color_space"))


def is_interlaced(frames: Sequence[Json]) -> bool:
    """Return whether most of the first decoded pictures are interlaced."""
    return 2 * sum(int(frame.get("interlaced_frame", 0)) for frame in frames) > len(frames)
