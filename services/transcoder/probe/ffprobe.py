"""Reads ffprobe's description of a file, also of files with additional streams that cannot be decoded."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from services.transcoder.ffmpeg.input import (
    AUDIO_CODECS,
    SUBTITLE_CODECS,
    VIDEO_CODECS,
    input_options,
)
from services.transcoder.ffmpeg.runner import RUNNER, parse_answer
from services.transcoder.probe.codec_name_offsets import find_codec_place
from services.transcoder.probe.patched_file import whole, with_replaced
from services.transcoder.probe.rejections import check_streams, is_cover, unopened_codec, unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.transcoder.ffmpeg.input import Limits
    from services.transcoder.ffmpeg.runner import FfmpegRunner
    from services.transcoder.probe.patched_file import View

    Json = Mapping[str, Any]

FIRST_PACKETS: Final = 16
# Marks that FFmpeg's log has with -loglevel level+debug; how much it read to open a file it only says there.
QUIET: Final = re.compile(r"(?:^|\] )\[(?:info|verbose|debug)\] ")
MARK: Final = re.compile(r"(?:^|(?<=\] ))\[(?:panic|fatal|error|warning)\] ")
OPENED: Final = re.compile(r"After avformat_find_stream_info\(\).* frames:(\d+)")
NOT_LISTED: Final = re.compile(r"Codec \((\S+)\) not on whitelist")
LISTED: Final = ",".join(VIDEO_CODECS + AUDIO_CODECS + SUBTITLE_CODECS)


@dataclass(frozen=True, slots=True)
class Opening:
    """The options for ffprobe to open a file without failing at an unused stream.

    `side_decoders` are decoders (by stream) that it must be allowed to open, or it fails; they get no
    packets. `unopened` are the codecs (by stream) that do not start; `hidden` is where the file stores their
    names. `folder` has the differences between file and view.
    """

    path: str
    folder: str
    side_decoders: Mapping[int, str] = field(default_factory=dict)
    unopened: Mapping[int, str] = field(default_factory=dict)
    hidden: Mapping[int, bytes] = field(default_factory=dict)
    probe_bytes: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether the file is opened unchanged, by decoders that are allowed anyway."""
        return not (self.side_decoders or self.unopened or self.hidden)

    def view(self) -> View:
        """Return the file as ffprobe should see it; writes differences to `folder`."""
        return with_replaced(self.path, self.hidden, self.folder) if self.hidden else whole(self.path)


@dataclass(frozen=True, slots=True)
class Description:
    """ffprobe's description of a file, and the options to read it again.

    `opening.probe_bytes` is how far it probed for parameters, 0 for its default. `packets_to_open` is how
    many packets it read to open the file; None if it did not say.
    """

    container: str
    format: Json
    streams: Sequence[Json]
    programmes: tuple[frozenset[int], ...]
    opening: Opening
    view: View
    packets_to_open: int | None = None

    @property
    def has_picture(self) -> bool:
        """Whether a video stream with a working decoder remains."""
        return any(
            stream.get("codec_type") == "video" and int(stream["index"]) not in self.opening.unopened
            for stream in self.streams
            if not is_cover(stream)
        )

    def options(self, limits: Limits) -> list[str]:
        """Return the ffprobe options for this file."""
        return probe_options(limits, self.opening, self.view)


def probe_options(limits: Limits, opening: Opening, view: View) -> list[str]:
    """Return the options of an ffprobe run.

    ffprobe opens a decoder for every stream and fails if one is not allowed, also for unused streams. An
    allow-list for a single stream affects only that decoder, not those that analyse the file.
    """
    allowed = [
        option
        for index, name in opening.side_decoders.items()
        for option in (f"-codec_whitelist:{index}", f"{LISTED},{name}")
    ]
    return [*input_options(limits.pixels, opening.probe_bytes, view.protocols), *allowed]


async def describe(
    opening: Opening, head: bytes, limits: Limits, *, runner: FfmpegRunner = RUNNER
) -> Description:
    """Return the description of a file. Raises a SourceError that names the problem."""
    obstacle = ""
    while True:
        view = await asyncio.to_thread(opening.view)
        text, finished = await runner.read_ffprobe(
            [
                *probe_options(limits, opening, view),
                *("-show_streams", "-show_format", "-show_programs", "-show_packets"),
                *("-read_intervals", f"%+#{FIRST_PACKETS}", "-of", "json", view.url),
            ],
            timeout_seconds=limits.probe_timeout_seconds,
            access=view.access,
            log_level="level+debug",
        )
        said, opened = warnings_in(finished.stderr), OPENED.search(finished.stderr)
        answer = parse_answer(text) if finished.returncode == 0 else {}
        if "format" in answer:
            found = _read(answer, opening, view, limits)
            if not found.has_picture:
                raise unreadable(obstacle, head)
            return replace(found, packets_to_open=int(opened[1]) if opened else None)
        obstacle = said
        again = await asyncio.to_thread(_without_obstacle, opening, said)
        if again is None:
            raise unreadable(said, head)
        opening = again


def warnings_in(stderr: str) -> str:
    """Return what FFmpeg printed with -loglevel level+debug as -loglevel warning would."""
    return "\n".join(MARK.sub("", line) for line in stderr.splitlines() if not QUIET.search(line))


def _without_obstacle(opening: Opening, stderr: str) -> Opening | None:
    """Return how to open the file despite the decoder at which ffprobe stopped; None if impossible."""
    failed = unopened_codec(stderr)
    if failed is None or failed.index in opening.unopened:
        return None
    refused = NOT_LISTED.search(failed.why)
    if refused and failed.index not in opening.side_decoders:
        return replace(opening, side_decoders={**opening.side_decoders, failed.index: refused[1]})
    place = find_codec_place(opening.path, failed.index)
    if place is None:
        return None
    return replace(
        opening,
        unopened={**opening.unopened, failed.index: failed.codec or place.name},
        hidden={**opening.hidden, place.offset: place.instead},
    )


def _read(found: Json, opening: Opening, view: View, limits: Limits) -> Description:
    container = str(found["format"]["format_name"]).split(",", 1)[0]
    streams = [_named(stream, opening.unopened) for stream in found.get("streams", [])]
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
        opening=opening,
        view=view,
    )


def _named(stream: Json, unopened: Mapping[int, str]) -> Json:
    """Return a stream with the codec that was hidden from ffprobe."""
    name = unopened.get(int(stream["index"]))
    return stream if name is None else {**stream, "codec_name": name}
