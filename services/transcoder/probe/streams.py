"""Interprets ffprobe's description of streams and first pictures; pure."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from services.transcoder.media import FULL_RANGES, ORIENTATIONS, SCALABLE_PIXELS, Colour
from shared.contracts.warnings import VideoWarning, WarningCode

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from services.transcoder.media import ColourChange, FirstField, VideoTrack
    from services.transcoder.probe.packets import PacketReader

    Json = Mapping[str, Any]

MATRIX_LINE: Final = re.compile(r"0000000[01]:\s+(-?\d+)\s+(-?\d+)")
ONE: Final = 1 << 16
MAX_ASPECT: Final = 20
LARGER: Final = Fraction(5, 4)  # of the area: a smaller difference means the same size with other borders
LATE_STREAM_BYTES: Final = 4 << 20  # of a stream and everything between its packets, to find its parameters
MAX_PROBE_BYTES: Final = 256 << 20  # FFmpeg keeps probed data in memory


def deeper_probe_bytes(streams: Sequence[Json], reader: PacketReader, hidden: Collection[int] = ()) -> int:
    """Return how far to probe to find the parameters of all streams except `hidden` ones.

    0 if they are known. Probing only the beginning misses a stream that starts late, or its size or sample
    rate.
    """
    known = {int(stream["index"]) for stream in streams if _has_parameters(stream)}.union(hidden)
    late = [
        packets.first_position or 0
        for index, packets in reader.packets.items()
        if index not in known and packets.count
    ]
    return min(max(late) + LATE_STREAM_BYTES, MAX_PROBE_BYTES) if late else 0


def _has_parameters(stream: Json) -> bool:
    needed = {"video": "width", "audio": "sample_rate"}.get(str(stream.get("codec_type")))
    return needed is None or int(stream.get(needed, 0)) > 0


def read_fraction(text: object) -> Fraction:
    """Parse a fraction such as "30000/1001" or "4:3"; 0 if it is unusable."""
    numerator, _, denominator = str(text or "").replace(":", "/").partition("/")
    try:
        return Fraction(int(numerator), int(denominator or 1))
    except (ValueError, ZeroDivisionError):
        return Fraction(0)


def read_aspect(stream: Json) -> Fraction:
    """Return the pixel aspect ratio; 1 if unknown or implausible."""
    aspect = read_fraction(stream.get("sample_aspect_ratio"))
    return aspect if Fraction(1, MAX_ASPECT) <= aspect <= MAX_ASPECT else Fraction(1)


def largest_size(video: VideoTrack, pictures: Sequence[Json]) -> tuple[int, int, Fraction]:
    """Return width, height and pixel shape of the largest of the first picture of `video` and later ones.

    A recording may start with a small test card or with lower resolution, which must not limit the ladder.
    Where pixels cannot be scaled to one size, the first picture counts.
    """
    sizes = [(video.width, video.height, video.sample_aspect)]
    if video.pix_fmt.startswith(SCALABLE_PIXELS):
        times = video.lines_times
        sizes += [(int(one["width"]), times * int(one["height"]), read_aspect(one)) for one in pictures]
    largest = max(sizes, key=_area)
    return largest if _area(largest) > LARGER * _area(sizes[0]) else sizes[0]


def _area(size: tuple[int, int, Fraction]) -> Fraction:
    return size[0] * size[1] * size[2]


def read_orientation(stream: Json) -> tuple[str, ...]:
    """Return the filters that turn the picture upright; only quarter turns and mirrors are supported."""
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
    """Return the colour tags of the decoded picture, else of the stream."""

    def tag(name: str) -> str:
        values = (str(place.get(name, "unknown")) for place in (frame, stream))
        return next((value for value in values if value not in {"unknown", "reserved", "unspecified"}), "")

    return Colour(tag("color_range"), tag("color_primaries"), tag("color_transfer"), tag("color_space"))


def colour_change(first: Colour, later: Sequence[Colour]) -> ColourChange:
    """Return the changes in the colours of SDR pictures, if all of them are tagged."""
    every = [first, *later]
    if any(colour.is_hdr or not colour.matrix for colour in every):
        return "none"
    if all(colour.primaries for colour in every) and len({colour.primaries for colour in every}) > 1:
        return "primaries"
    coding = {(colour.matrix, colour.range in FULL_RANGES) for colour in every}
    return "coding" if len(coding) > 1 else "none"


def changes_dynamic_range(first: Colour, later: Sequence[Colour]) -> list[VideoWarning]:
    """Return a warning if some pictures are HDR and others are not."""
    if all(colour.is_hdr == first.is_hdr for colour in later):
        return []
    message = "the video changes between SDR and HDR: parts of it have the wrong brightness and colours"
    return [VideoWarning(code=WarningCode.PICTURE_DIFFERS, message=message)]


def first_field(stream: Json, pictures: Sequence[Json]) -> FirstField:
    """Return which field comes first where pictures are fields: HEVC only codes them as pictures."""
    if stream.get("codec_name") != "hevc" or not is_interlaced(pictures):
        return "none"
    return "top" if pictures[0].get("top_field_first") else "bottom"


def is_interlaced(frames: Sequence[Json]) -> bool:
    """Return whether most of the first decoded pictures are interlaced."""
    return 2 * sum(int(frame.get("interlaced_frame", 0)) for frame in frames) > len(frames)
