"""Filters that convert any source's colours to 8-bit BT.709 with limited range."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from services.transcoder.media import FULL_RANGES

if TYPE_CHECKING:
    from services.transcoder.media import VideoTrack

PIXELS: Final = "yuv420p"
OUTPUT_TAGS: Final = (
    *("-color_range", "tv", "-colorspace", "bt709"),
    *("-color_primaries", "bt709", "-color_trc", "bt709"),
)
# FFmpeg 8.0 and later convert untagged pictures to the colours of OUTPUT_TAGS, which fails on a GPU. Pictures
# that have these colours already (is_bt709) are tagged by this filter; swscale and zscale tag theirs.
SAYS_BT709: Final = "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
# FFmpeg's names of matrices, as in swscale's `in_color_matrix`.
SCALE_MATRICES: Final = {
    "bt709": "bt709",
    "fcc": "fcc",
    "bt470bg": "bt601",
    "smpte170m": "bt601",
    "smpte240m": "smpte240m",
    "bt2020nc": "bt2020",
    "bt2020c": "bt2020",
}
ZSCALE_MATRICES: Final = {
    "bt709": "709",
    "bt470bg": "470bg",
    "smpte170m": "170m",
    "bt2020c": "2020_cl",
    "ictcp": "ictcp",
}
# Matrices that swscale does not know; the others of H.273 follow from the primaries.
ZSCALE_ONLY: Final = {"ycgco": "ycgco"}
BY_PRIMARIES: Final = frozenset({"chroma-derived-nc", "chroma-derived-c"})
ZSCALE_SDR_MATRICES: Final = {
    "bt709": "709",
    "bt601": "170m",
    "fcc": "fcc",
    "smpte240m": "smpte2400m",  # zscale's own spelling
    "bt2020": "2020_ncl",
}
ZSCALE_PRIMARIES: Final = {"bt709": "709", "smpte432": "smpte432", "smpte431": "smpte431"}
# Primaries of a stream other than BT.709, and zscale's names for them (EBU 3213 is PAL's).
OTHER_PRIMARIES: Final = {
    name: name
    for name in ("bt470m", "bt470bg", "smpte170m", "smpte240m", "film", "bt2020", "smpte428", "smpte431")
} | {"smpte432": "smpte432", "ebu3213": "bt470bg", "jedec-p22": "bt470bg"}
# Players treat all other SDR curves alike (sRGB, BT.601, BT.2020).
OTHER_CURVES: Final = frozenset({"linear", "log100", "log316"})
NOMINAL_PEAK_NITS: Final = 100
# If the colour coding changes, each picture is read by its own tags.
AS_BT709_CODES: Final = "scale=in_color_matrix=auto:out_color_matrix=bt709:out_range=limited"
ALPHA: Final = ("yuva", "gbrap", "rgba", "bgra", "argb", "abgr", "ya8", "ya16")
ON_BLACK: Final = "premultiply=inplace=1"


def is_bt709(video: VideoTrack) -> bool:
    """Return whether the picture already has the output colours."""
    coded = _matrix(video) == "bt709" and _range(video) == "limited" and video.colours_change == "none"
    return coded and not _needs_linear_light(video)


def _needs_linear_light(video: VideoTrack) -> bool:
    """Return whether conversion needs linear light: different primaries or transfer curve."""
    colour = video.colour
    return (
        colour.is_hdr
        or _primaries(video) != "bt709"
        or colour.transfer in OTHER_CURVES
        or colour.matrix in ZSCALE_ONLY
        or video.colours_change == "primaries"
    )


def _primaries(video: VideoTrack) -> str:
    """Return the stream's primaries; untagged: BT.2020's if the matrix is, else BT.709's."""
    named = video.colour.primaries
    if not named and SCALE_MATRICES.get(video.colour.matrix) == "bt2020":
        return "bt2020"
    return OTHER_PRIMARIES.get(named, "bt709")


def scale_to_bt709(video: VideoTrack, width: int, height: int) -> list[str]:
    """Return the filters that scale the decoded picture to `width` by `height` and convert its colours."""
    first, video = _prepared(video)
    return [*first, *_scaled(video, width, height)]


def _prepared(video: VideoTrack) -> tuple[list[str], VideoTrack]:
    """Return the filters that put pictures on black with equal coding, and the resulting format."""
    steps = []
    if video.pix_fmt.startswith(ALPHA) and video.codec != "gif":  # GIF's own background is white
        steps.append(ON_BLACK)
    if video.colours_change != "coding" or _is_rgb(video.pix_fmt):
        return steps, video
    alike = replace(video, colour=replace(video.colour, matrix="bt709", range="tv"))
    return [*steps, AS_BT709_CODES], alike


def _scaled(video: VideoTrack, width: int, height: int) -> list[str]:
    if video.colour.is_hdr:
        return [*_even(video), *_tone_mapped(video, width, height)]
    if _needs_linear_light(video):
        return [*_even(video), *_remapped(video, width, height), f"format={PIXELS}"]
    options = [f"scale={width}:{height}:flags=bicubic"]
    if not _is_rgb(video.pix_fmt):
        options.append(f"in_color_matrix={_matrix(video)}:in_range={_range(video)}")
    return [":".join((*options, "out_color_matrix=bt709:out_range=limited")), f"format={PIXELS}"]


def reference_colours(video: VideoTrack, width: int, height: int) -> list[str]:
    """Return the filters by which the content check judges colours.

    All SDR goes through linear light, so that the result does not depend on which primaries need it.
    """
    first, video = _prepared(video)
    if video.colour.is_hdr:
        return [*first, *_tone_mapped(video, width, height)]
    return [*first, *_remapped(video, width, height), f"format={PIXELS}"]


def _even(video: VideoTrack) -> list[str]:
    """Return the filter that makes odd sizes even: zscale rejects them with subsampled colour."""
    width, height = (side + side % 2 for side in (video.width, video.height))
    return [] if (width, height) == (video.width, video.height) else [f"scale={width}:{height}"]


def _remapped(video: VideoTrack, width: int, height: int) -> list[str]:
    """Return the filters from SDR with other primaries to BT.709, in linear light."""
    transfer = video.colour.transfer
    rgb = _is_rgb(video.pix_fmt)
    scaled = f"zscale=w={width}:h={height}:f=bicubic:tin={transfer if transfer in OTHER_CURVES else '709'}"
    if video.colours_change == "primaries":
        # Each picture is read by its own tags. Via RGB, because a zscale that has nothing to do at first
        # never starts converting.
        to_rgb = f"{scaled}:t=709:p=709:m=gbr:r=full"
        return [to_rgb, "format=gbrp", "scale=out_color_matrix=bt709:out_range=limited"]
    given = (
        f"pin={_primaries(video)}",
        f"min={'gbr' if rgb else _zscale_matrix(video)}",
        f"rin={'full' if rgb else _range(video)}",
    )
    return [":".join((scaled, *given, "t=709:p=709:m=709:r=limited"))]


def _tone_mapped(video: VideoTrack, width: int, height: int) -> list[str]:
    """Return filters from PQ or HLG to SDR: linear light, BT.709 primaries, Hable's curve."""
    colour = video.colour
    given = (
        f"tin={colour.transfer}",
        f"pin={ZSCALE_PRIMARIES.get(colour.primaries, '2020')}",
        f"min={ZSCALE_MATRICES.get(colour.matrix, '2020_ncl')}",
        f"rin={_range(video)}",
    )
    return [
        ":".join((f"zscale=w={width}:h={height}", *given, "t=linear", f"npl={NOMINAL_PEAK_NITS}")),
        "format=gbrpf32le",
        "zscale=p=709",
        "tonemap=hable:desat=0",
        "zscale=t=709:m=709:r=limited",
        f"format={PIXELS}",
    ]


def _matrix(video: VideoTrack) -> str:
    """Return the stream's matrix; untagged: BT.709 for high definition, else BT.601."""
    if video.colour.matrix in BY_PRIMARIES:
        return "bt2020" if _primaries(video) == "bt2020" else "bt709"
    is_high = video.width >= 1280 or video.height > 576
    return SCALE_MATRICES.get(video.colour.matrix, "bt709" if is_high else "bt601")


def _zscale_matrix(video: VideoTrack) -> str:
    return ZSCALE_ONLY.get(video.colour.matrix) or ZSCALE_SDR_MATRICES[_matrix(video)]


def _range(video: VideoTrack) -> str:
    is_full = video.colour.range in FULL_RANGES or video.pix_fmt.startswith("yuvj")
    return "full" if is_full else "limited"


def _is_rgb(pix_fmt: str) -> bool:
    return pix_fmt.startswith(("rgb", "bgr", "gbr", "argb", "abgr", "0rgb", "0bgr", "pal8", "monob", "monow"))
