"""Reads ffprobe's description of a file, also of files with unsupported additional streams."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from services.transcoder.ffmpeg.input import (
    AUDIO_CODECS,
    SUBTITLE_CODECS,
    VIDEO_CODECS,
    input_options,
    input_url,
)
from services.transcoder.ffmpeg.runner import RUNNER
from services.transcoder.ffmpeg.sandbox import Access
from services.transcoder.probe.rejections import check_streams, unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.transcoder.ffmpeg.input import Limits
    from services.transcoder.ffmpeg.runner import FfmpegRunner

    Json = Mapping[str, Any]

FIRST_PACKETS: Final = 16
NOT_LISTED: Final = re.compile(r"Codec \((\S+)\) not on whitelist")
NOT_OPENED: Final = re.compile(r"Could not open codec for input stream (\d+)")
LISTED: Final = ",".join(VIDEO_CODECS + AUDIO_CODECS + SUBTITLE_CODECS)


@dataclass(frozen=True, slots=True)
class Description:
    """ffprobe's description of a file.

    `side_decoders` are decoders (by stream) that ffprobe must be allowed to open, else it fails; they get no
    packets. `probe_bytes` is how far it probed for parameters, 0 for its default.
    """

    container: str
    format: Json
    streams: Sequence[Json]
    programmes: tuple[frozenset[int], ...]
    side_decoders: Mapping[int, str] = field(default_factory=dict)
    probe_bytes: int = 0

    def options(self, limits: Limits) -> list[str]:
        """Return the ffprobe options for this file."""
        return probe_options(limits, self.side_decoders, self.probe_bytes)


def probe_options(limits: Limits, side_decoders: Mapping[int, str], probe_bytes: int) -> list[str]:
    """Return the options of an ffprobe run.

    ffprobe opens a decoder for every stream and fails if one is not allowed, also for unused streams. An
    allow-list for a single stream affects only that decoder, not those that analyse the file.
    """
    allowed = [
        option
        for index, name in side_decoders.items()
        for option in (f"-codec_whitelist:{index}", f"{LISTED},{name}")
    ]
    return [*input_options(limits.pixels, probe_bytes), *allowed]


async def describe(
    path: str, head: bytes, limits: Limits, probe_bytes: int = 0, *, runner: FfmpegRunner = RUNNER
) -> Description:
    """Return the description of a file. Raises a SourceError that names the problem."""
    side_decoders: dict[int, str] = {}
    while True:
        text, finished = await runner.read_ffprobe(
            [
                *probe_options(limits, side_decoders, probe_bytes),
                *("-show_streams", "-show_format", "-show_programs", "-show_packets"),
                *("-read_intervals", f"%+#{FIRST_PACKETS}", "-of", "json", input_url(path)),
            ],
            timeout_seconds=limits.probe_timeout_seconds,
            access=Access(reads=(path,)),
            log_level="warning",
        )
        if finished.returncode == 0:
            break
        refused = _refused_decoder(finished.stderr)
        if refused is None or refused[0] in side_decoders:
            raise unreadable(finished.stderr, head)
        side_decoders[refused[0]] = refused[1]
    return _read(json.loads(text), side_decoders, probe_bytes, limits)


def _refused_decoder(stderr: str) -> tuple[int, str] | None:
    """Return the stream and decoder at which ffprobe failed because it is not on the allow-list."""
    stream, names = NOT_OPENED.search(stderr), NOT_LISTED.findall(stderr)
    return (int(stream[1]), names[-1]) if stream and names else None


def _read(found: Json, side_decoders: Mapping[int, str], probe_bytes: int, limits: Limits) -> Description:
    container = str(found["format"]["format_name"]).split(",", 1)[0]
    streams = found.get("streams", [])
    check_streams(streams, container, found.get("packets", []), limits)
    programmes = (
        frozenset(int(stream["index"]) for stream in programme.get("streams", []))
        for programme in found.get("programs", [])
    )
    return Description(
        container=container,
        format=found["format"],
        streams=streams,
        programmes=tuple(programme for programme in programmes if programme),
        side_decoders=side_decoders,
        probe_bytes=probe_bytes,
    )
