"""The options that restrict what an untrusted source can make FFmpeg do.

A playlist in a file named .mp4 makes FFmpeg read other local files even with `-protocol_whitelist file`; only
`-format_whitelist` prevents that. `-codec_whitelist` excludes the hundreds of decoders that videos do not
need, `-max_pixels` stops decompression bombs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

VIDEO_FORMATS: Final = ("mov", "matroska", "mpegts", "mpeg", "avi", "flv", "asf", "ogg", "gif", "mxf")
# Needed only to report "audio but no video".
AUDIO_FORMATS: Final = ("mp3", "wav", "flac", "aac")

VIDEO_CODECS: Final = (
    *("h264", "hevc", "av1", "libdav1d", "libaom-av1", "vp8", "vp9", "vp6", "vp6f", "vp6a"),
    *("mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4", "h263", "h263i", "flv"),
    *("wmv1", "wmv2", "wmv3", "vc1", "theora", "mjpeg", "mjpegb", "prores", "dnxhd", "cfhd", "dvvideo"),
    *("ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "v210", "qtrle", "svq1", "svq3", "cinepak"),
    *("indeo3", "indeo5", "msvideo1", "rpza", "hap", "gif", "png", "jpeg2000"),
    *("h264_cuvid", "hevc_cuvid", "vp9_cuvid", "av1_cuvid", "mpeg2_cuvid"),
)
AUDIO_CODECS: Final = (
    *("aac", "aac_latm", "mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float", "ac3", "eac3", "dca"),
    *("truehd", "mlp", "opus", "libopus", "vorbis", "libvorbis", "flac", "alac", "wmav1", "wmav2"),
    *("wmapro", "wmalossless", "wmavoice", "amrnb", "amrwb", "speex", "libspeex", "nellymoser", "gsm"),
    *("adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt", "adpcm_swf", "qdm2", "qcelp", "mace3", "mace6"),
    *("pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_f32le"),
    *("pcm_f32be", "pcm_f64le", "pcm_f64be", "pcm_u8", "pcm_s8", "pcm_alaw", "pcm_mulaw"),
    *("pcm_s16le_planar", "pcm_bluray", "pcm_dvd"),
)

# ffprobe opens the decoder of every stream, also of unused ones.
SUBTITLE_CODECS: Final = (
    *("srt", "subrip", "ass", "ssa", "mov_text", "webvtt", "text", "dvbsub", "dvdsub", "pgssub", "xsub"),
    *("cc_dec", "libzvbi_teletextdec", "microdvd", "stl", "realtext", "sami", "subviewer", "jacosub"),
)


PROBE_MICROSECONDS: Final = str(12 * 3600 * 1_000_000)  # limited by bytes instead of time


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on one source."""

    duration_seconds: float = 12 * 3600
    pixels: int = 8192 * 4320
    streams: int = 64
    attachments: int = 1000
    scan_timeout_seconds: float = 900
    probe_timeout_seconds: float = 60


def input_options(max_pixels: int, probe_bytes: int = 0, protocols: str = "file") -> list[str]:
    """Return the options before `-i` (or ffprobe's file name) for reading any source.

    `probe_bytes` is how far into the file FFmpeg looks for the parameters of streams (0: its default of 5 MB
    or a few seconds, which misses streams that start later).
    """
    deeper = ["-probesize", str(probe_bytes), "-analyzeduration", PROBE_MICROSECONDS] if probe_bytes else []
    return [
        *deeper,
        *("-protocol_whitelist", protocols),
        *("-format_whitelist", ",".join(VIDEO_FORMATS + AUDIO_FORMATS)),
        *("-codec_whitelist", ",".join(VIDEO_CODECS + AUDIO_CODECS + SUBTITLE_CODECS)),
        *("-max_pixels", str(max_pixels)),
    ]


def input_url(path: str) -> str:
    """Return `path` in a form that FFmpeg treats as a file name whatever characters it contains."""
    return f"file:{path}"


def source_input(path: str, seek_seconds: float | None, probe_bytes: int = 0) -> list[str]:
    """Return the options of a source as an input of ffmpeg, read from about `seek_seconds` on.

    The moment is on the clock of the file. Decoding begins at a key frame before it: filters, not the seek,
    decide what is used.
    """
    seek = []
    if seek_seconds is not None:
        seek = ["-noaccurate_seek", "-seek_timestamp", "1", "-ss", f"{seek_seconds:.6f}"]
    return [*input_options(Limits().pixels, probe_bytes), *seek, "-i", input_url(path)]
