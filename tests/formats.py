"""Formats that are accepted, each with a clip that is converted by tests/integration/test_formats.py.

`python -m tests.formats` writes docs/formats.md from the same list; a unit test keeps the two in step.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "formats.md"
CLIPS: Final = Path(__file__).parent / "clips"  # sound in codecs that FFmpeg cannot encode: TONE_HZ for 2 s
HEAD: Final = """# Formats

What is accepted, as far as a test converts a clip of it and compares every picture and the sound
(`tests/integration/test_formats.py`; this table is written by `python -m tests.formats`). More is accepted
than is listed: the containers and codecs in [`ffmpeg/input.py`](../services/transcoder/ffmpeg/input.py).
Sound in a codec that is not accepted is left out with the warning `audio_left_out`; a picture in one refuses
the video as `unsupported_codec`, and the message names it.

| container | video | pixels | sound | channels and rate |
|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Format:
    """A clip: the names for the table, and how ffmpeg makes it."""

    container: str
    video: str
    pixels: str
    audio: str
    sound: str
    options: str
    size: str = ""
    rate: int = 25
    seconds: float = 2
    clip: str = ""  # the sound, where FFmpeg cannot encode it
    packs: bool = False  # two pictures in a packet, as DivX and Xvid do with B-frames

    @property
    def row(self) -> str:
        cells = (f"`.{self.container}`", self.video, f"`{self.pixels}`", self.audio, self.sound)
        return f"| {' | '.join(cells)} |"


FORMATS: Final = (
    Format(
        "mp4",
        "H.264",
        "yuv420p",
        "AAC",
        "stereo, 48 kHz",
        "-c:v libx264 -preset ultrafast -c:a aac -ac 2",
    ),
    Format(
        "mp4",
        "H.264",
        "yuv444p",
        "AAC",
        "mono, 8 kHz",
        "-c:v libx264 -preset ultrafast -c:a aac -ac 1 -ar 8000",
    ),
    Format(
        "mp4",
        "H.264",
        "yuv420p10le",
        "AAC",
        "7.1, 96 kHz",
        "-c:v libx264 -preset ultrafast -c:a aac -ac 8 -ar 96000",
    ),
    Format(
        "mp4",
        "HEVC",
        "yuv420p10le",
        "AC-3",
        "5.1, 48 kHz",
        "-c:v libx265 -preset ultrafast -x265-params log-level=error -c:a ac3 -ac 6",
    ),
    Format(
        "mp4",
        "AV1",
        "yuv420p",
        "Opus",
        "stereo, 48 kHz",
        "-c:v libaom-av1 -cpu-used 8 -usage realtime -c:a libopus -ac 2",
    ),
    Format(
        "mp4",
        "AV1 with film grain",
        "yuv420p",
        "Opus",
        "mono, 48 kHz",
        "-c:v libaom-av1 -cpu-used 8 -usage realtime -denoise-noise-level 25 -c:a libopus -ac 1",
    ),
    Format(
        "mp4",
        "H.264",
        "yuv420p",
        "HE-AAC v2",
        "stereo, 48 kHz",
        "-c:v libx264 -preset ultrafast -c:a copy",
        clip="he_aac_v2.m4a",
    ),
    Format(
        "flv",
        "H.264",
        "yuv420p",
        "HE-AAC",
        "stereo, 48 kHz",
        "-c:v libx264 -preset ultrafast -c:a copy",
        clip="he_aac.m4a",
    ),
    Format(
        "mp4",
        "HEVC (3840x2160, 60 a second)",
        "yuv420p10le",
        "AAC",
        "stereo, 48 kHz",
        "-c:v libx265 -preset ultrafast -x265-params log-level=error -b:v 20M -c:a aac -ac 2",
        size="3840:2160",
        rate=60,
        seconds=0.2,
    ),
    Format(
        "mkv",
        "HEVC (7680x4320)",
        "yuv420p",
        "AAC",
        "stereo, 48 kHz",
        "-c:v libx265 -preset ultrafast -x265-params log-level=error -b:v 20M -c:a aac -ac 2",
        size="7680:4320",
        seconds=0.16,
    ),
    Format(
        "mov",
        "ProRes",
        "yuv422p10le",
        "PCM",
        "stereo, 96 kHz",
        "-c:v prores_ks -c:a pcm_s24le -ac 2 -ar 96000",
    ),
    Format(
        "mov",
        "Motion JPEG",
        "yuvj420p",
        "ALAC",
        "stereo, 44.1 kHz",
        "-c:v mjpeg -q:v 3 -c:a alac -ac 2 -ar 44100",
    ),
    Format(
        "mkv",
        "H.264",
        "yuv422p",
        "FLAC",
        "quadraphonic, 48 kHz",
        "-c:v libx264 -preset ultrafast -c:a flac -ac 4",
    ),
    Format(
        "mkv",
        "FFV1",
        "yuv420p",
        "TrueHD",
        "5.1, 48 kHz",
        "-c:v ffv1 -c:a truehd -strict -2 -af aformat=channel_layouts=5.1(side)",
    ),
    Format(
        "mkv",
        "MPEG-4 Part 2",
        "yuv420p",
        "E-AC-3",
        "5.1, 48 kHz",
        "-c:v mpeg4 -q:v 3 -c:a eac3 -ac 6",
    ),
    Format(
        "webm",
        "VP8",
        "yuv420p",
        "Vorbis",
        "stereo, 44.1 kHz",
        "-c:v libvpx -deadline realtime -c:a libvorbis -ac 2 -ar 44100",
    ),
    Format(
        "webm",
        "VP9",
        "yuv420p",
        "Opus",
        "mono, 48 kHz",
        "-c:v libvpx-vp9 -deadline realtime -c:a libopus -ac 1",
    ),
    Format(
        "ts",
        "MPEG-2",
        "yuv420p",
        "MP2",
        "stereo, 48 kHz",
        "-c:v mpeg2video -q:v 3 -c:a mp2 -ac 2",
    ),
    Format(
        "ts",
        "H.264",
        "yuv420p",
        "AAC in LATM",
        "stereo, 48 kHz",
        "-c:v libx264 -preset ultrafast -c:a aac -ac 2 -mpegts_flags latm",
    ),
    Format(
        "ts",
        "HDV (MPEG-2, 1440x1080, interlaced)",
        "yuv420p",
        "MP2",
        "stereo, 48 kHz",
        "-c:v mpeg2video -g 12 -bf 2 -flags +ildct+ilme -top 1 -aspect 16:9 -c:a mp2 -ac 2",
        size="1440:1080",
    ),
    Format(
        "mpg",
        "MPEG-1",
        "yuv420p",
        "MP2",
        "stereo, 44.1 kHz",
        "-c:v mpeg1video -q:v 3 -c:a mp2 -ac 2 -ar 44100",
    ),
    Format(
        "flv",
        "H.264",
        "yuv420p",
        "MP3",
        "stereo, 44.1 kHz",
        "-c:v libx264 -preset ultrafast -c:a libmp3lame -ac 2 -ar 44100",
    ),
    Format(
        "avi",
        "MPEG-4 Part 2",
        "yuv420p",
        "MP3",
        "mono, 22.05 kHz",
        "-c:v mpeg4 -q:v 3 -c:a libmp3lame -ac 1 -ar 22050",
    ),
    Format(
        "avi",
        "MPEG-4 Part 2 (packed B-frames)",
        "yuv420p",
        "MP3",
        "stereo, 48 kHz",
        "-c:v mpeg4 -bf 1 -q:v 3 -g 24 -c:a libmp3lame -ac 2",
        packs=True,
    ),
    Format(
        "avi",
        "DV",
        "yuv420p",
        "PCM",
        "stereo, 48 kHz",
        "-c:v dvvideo -c:a pcm_s16le -ac 2",
        size="720:576",
    ),
    Format(
        "wmv",
        "WMV 2",
        "yuv420p",
        "WMA 2",
        "stereo, 44.1 kHz",
        "-c:v wmv2 -q:v 3 -c:a wmav2 -ac 2 -ar 44100",
    ),
    Format(
        "ogv",
        "Theora",
        "yuv420p",
        "Vorbis",
        "stereo, 48 kHz",
        "-c:v libtheora -q:v 9 -c:a libvorbis -ac 2",
    ),
    Format(
        "mxf",
        "MPEG-2",
        "yuv422p",
        "PCM",
        "mono, 48 kHz",
        "-c:v mpeg2video -q:v 3 -c:a pcm_s16le -ac 1",
    ),
)


TAIL: Final = """
Accepted, but not tried, because no free encoder makes a clip of it: VC-1 and WMV 3 (`.wmv`, `.mkv`, `.ts`),
WMA Pro and Lossless, Indeo, DTS-HD and the older codecs of games and cameras that the list of codecs names.
"""


def document() -> str:
    """Return docs/formats.md."""
    return HEAD + "\n".join(form.row for form in FORMATS) + "\n" + TAIL


if __name__ == "__main__":
    DOCUMENT.write_text(document())
