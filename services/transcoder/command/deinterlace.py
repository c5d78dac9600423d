"""Filters for interlaced pictures: fields become frames, and frames of fields are deinterlaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from services.transcoder.media import VideoTrack

# Codecs in which single pictures may be interlaced.
INTERLACED_CODECS: Final = frozenset(
    {
        *("h264", "mpeg2video", "mpeg4", "vc1", "wmv3", "dvvideo", "prores", "dnxhd", "mjpeg", "jpeg2000"),
        *("ffv1", "huffyuv", "ffvhuff", "utvideo", "v210", "rawvideo", "cfhd", "svq3"),
    }
)


def woven(video: VideoTrack) -> list[str]:
    """Return the filters that make frames of fields, where the decoder returns these.

    Where one of a pair is missing, as where reading begins, its other field is left out.
    """
    if video.first_field == "none":
        return []
    first = "TOPFIRST" if video.first_field == "top" else "BOTTOMFIRST"
    paired = f"if(ld(0),st(0,0)+1,if(eq(interlace_type,{first}),st(0,1)))"
    return [f"select='{paired}'", f"weave=first_field={video.first_field}"]


def full_height(video: VideoTrack) -> list[str]:
    """Return the filters that make a frame of a single field, where the decoder returns fields."""
    if video.first_field == "none":
        return []
    aspect = video.sample_aspect
    return ["scale=iw:2*ih", f"setsar={aspect.numerator}/{aspect.denominator}"]


def deinterlaces(video: VideoTrack) -> bool:
    """Return whether pictures marked as interlaced are deinterlaced on the CPU."""
    may_be = video.codec in INTERLACED_CODECS and video.pix_fmt.startswith(("yuv4", "yuvj4"))
    return video.interlaced or may_be


def deinterlaced(video: VideoTrack) -> list[str]:
    """Return the filter that deinterlaces pictures marked as interlaced and passes all others."""
    return ["bwdif=mode=send_frame:deint=interlaced"] if deinterlaces(video) else []
