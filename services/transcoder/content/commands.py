"""The command lines of the content check: pure functions of the plan.

The source is read differently than for the encode: by time instead of by count, with filters rebuilt whenever
the format changes, and with colours always converted in linear light.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING, Final

from services.transcoder.command.audio import EVERY_ERROR, sound_of, to_stereo
from services.transcoder.command.chunk import BASE_SECONDS
from services.transcoder.command.colour import reference_colours
from services.transcoder.command.timestamps import moved_to
from services.transcoder.command.video import decoder_options
from services.transcoder.content.loudness import BLOCK_SECONDS, measure
from services.transcoder.content.picture_difference import HEIGHT, WIDTH
from services.transcoder.ffmpeg.input import source_input
from services.transcoder.media import WAITS_FOR_COMPLETE
from services.transcoder.plan.timeline import AUDIO_RATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from services.transcoder.plan.model import Chunk, Plan

    Stretch = tuple[float, float]  # from, to: seconds of the output

HEAD: Final = (
    "ffmpeg",
    "-hide_banner",
    "-nostdin",
    "-nostats",
    "-loglevel",
    "error",
    "-y",
    "-copyts",
    *EVERY_ERROR,
)
# A picture's name is twice its time in microseconds, plus one if it is interlaced.
NAMED: Final = "settb=1/1000000,setpts='2*round(T*1000000)+INTERLACED'"
# From one field only, because neighbouring pictures are not available; doubles the time ticks.
WEAVE: Final = "estdif=mode=frame:deint=interlaced,settb=1/1000000"
AS_FILES: Final = (
    *("-fps_mode", "passthrough", "-enc_time_base", "1/1000000"),
    *("-f", "image2", "-frame_pts", "1"),
)
SMALL: Final = f"scale={WIDTH}:{HEIGHT}:flags=area:in_color_matrix=bt709,format=rgb24"
NOWHERE: Final = ("-map", "[a]", "-f", "null", "-")
ONE_THREAD: Final = ("-threads", "1")  # with few pictures more threads cost more than they gain
KEY_SECONDS: Final = 2.2  # maximum distance of our key frames
DENSE_SECONDS: Final = 0.2  # between compared pictures of a section


@dataclass(frozen=True, slots=True)
class Reading:
    """One input of a command, and its outputs as a function of the input's number."""

    input: tuple[str, ...]
    outputs: Callable[[int], list[str]]


def command(*readings: Reading) -> list[str]:
    """Return one command for all `readings`; empty if there are none."""
    if not readings:
        return []
    inputs = [option for reading in readings for option in reading.input]
    outputs = [option for number, reading in enumerate(readings) for option in reading.outputs(number)]
    return [*HEAD, *inputs, *outputs]


def source_picture(plan: Plan, path: str, folder: str, moment: float | None) -> Reading:
    """Write a small picture near `moment` on the file's clock (None: its beginning).

    It is the first one that decodes there, and is named by NAMED.
    """

    def outputs(number: int) -> list[str]:
        on_clock = moved_to("setpts", plan.video.time_map, 0)
        complete = "null" if plan.video.codec in WAITS_FOR_COMPLETE else "select=key"
        graph = f"[{number}:{plan.video.index}]{complete},{on_clock},{_small_source(plan)}[p{number}]"
        written = ["-map", f"[p{number}]", "-frames:v", "1", *AS_FILES, f"{folder}/%d.ppm"]
        return ["-filter_complex", graph, *written]

    return Reading((*ONE_THREAD, *_video_input(plan, path, moment)), outputs)


def source_stretch(plan: Plan, chunk: Chunk, path: str, folder: str, stretch: Stretch) -> Reading:
    """Write a few small pictures per second of `stretch` (output seconds)."""
    begin, end = (float(plan.zero_seconds) + seconds for seconds in stretch)
    # Not `trim`: a single wrong timestamp would end it.
    on_clock = moved_to("setpts", plan.video.time_map, 0, is_complete=True)
    graph = f"{on_clock},{_thinned(begin, end)},{_small_source(plan)}"
    most = 1 + ceil((end - begin) / DENSE_SECONDS)

    def outputs(number: int) -> list[str]:
        written = ["-map", "[p]", "-frames:v", str(most), *AS_FILES, f"{folder}/%d.ppm"]
        return ["-filter_complex", f"[{number}:{plan.video.index}]{graph}[p]", *written]

    return Reading((*_video_input(plan, path, chunk.video_seek_seconds),), outputs)


def source_packets(plan: Plan, chunk: Chunk, path: str, packets_path: str) -> Reading:
    """Write times and sizes of the packets of a chunk's pictures."""
    end = float(file_clock(plan, plan.zero_seconds + chunk.end_frame / plan.rate))

    def outputs(number: int) -> list[str]:
        copied = ["-map", f"{number}:{plan.video.index}", "-c:v", "copy", "-to", f"{end:.6f}"]
        return [*copied, "-f", "framecrc", packets_path]

    return Reading((*source_input(path, chunk.video_seek_seconds, plan.probe_bytes),), outputs)


def source_levels(plan: Plan, chunk: Chunk, path: str) -> Reading:
    """Print the levels of a chunk's sound as decoded from the source."""
    assert plan.audio is not None  # noqa: S101 - the caller asks only for videos that have sound
    first = round((float(plan.zero_seconds) + _first_block(plan, chunk)) * AUDIO_RATE)
    end = float(plan.zero_seconds + chunk.end_frame / plan.rate)
    audio, measured = plan.audio, f"{to_stereo(plan.audio)},atrim=end={end:.6f},{measure(first)}[a]"
    options = ("-vn", *source_input(path, chunk.audio_seek_seconds, plan.probe_bytes))
    return Reading(
        options, lambda number: ["-filter_complex", f"{sound_of(audio, number)}{measured}", *NOWHERE]
    )


def output_pictures(plan: Plan, segments: str, folder: str, numbers: Iterable[int]) -> Reading:
    """Write small pictures of the frames `numbers` and their neighbours.

    `segments` is, here and below, the URL of their segments (`joined`).
    """
    wanted = "+".join(
        "between(t,{:.6f},{:.6f})".format(*_beside(plan, number)) for number in sorted(set(numbers))
    )
    return _output(segments, f"select='{wanted}'", folder)


def output_picture(plan: Plan, segment: str, folder: str, number: int) -> Reading:
    """Write small pictures of the frame `number` and its neighbours, decoded from the previous key frame."""
    begin, end = _beside(plan, number)
    seek = ("-noaccurate_seek", "-seek_timestamp", "1", "-ss", f"{begin - KEY_SECONDS:.6f}", *ONE_THREAD)
    found = _output(segment, f"select='between(t,{begin:.6f},{end:.6f})'", folder, most=3)
    return Reading((*seek, *found.input), found.outputs)


def _beside(plan: Plan, number: int) -> tuple[float, float]:
    """Return the range of times in the segments that contains a frame and its neighbours."""
    time, near = BASE_SECONDS + float(number / plan.rate), 1.5 / float(plan.rate)
    return time - near, time + near


def output_stretch(segments: str, folder: str, stretch: Stretch) -> Reading:
    """Write a few small pictures per second of `stretch` (output seconds)."""
    begin, end = (BASE_SECONDS + seconds for seconds in stretch)
    return _output(segments, _thinned(begin, end), folder)


def output_measures(plan: Plan, chunk: Chunk, segments: str, packets_path: str, *, levels: bool) -> Reading:
    """Write times and sizes of the packets of all pictures, and optionally print the levels of the sound."""
    first = round((BASE_SECONDS + _first_block(plan, chunk)) * AUDIO_RATE)

    def outputs(number: int) -> list[str]:
        packets = ["-map", f"{number}:v", "-c:v", "copy", "-f", "framecrc", packets_path]
        graph = ["-filter_complex", f"[{number}:a]{measure(first)}[a]", *NOWHERE]
        return [*packets, *(graph if levels else [])]

    return Reading(("-i", segments), outputs)


def _first_block(plan: Plan, chunk: Chunk) -> float:
    """Return where the first block of levels in a chunk starts, in seconds of the output."""
    return ceil(chunk.first_frame / plan.rate / Fraction(BLOCK_SECONDS)) * BLOCK_SECONDS


def file_clock(plan: Plan, moment: Fraction) -> Fraction:
    """Return the file's time for the plan's time `moment` (seconds)."""
    base = plan.video.time_base
    return plan.video.on_file_clock(round(moment / base)) * base


def _video_input(plan: Plan, path: str, moment: float | None) -> list[str]:
    return [*decoder_options(plan.video), *source_input(path, moment, plan.probe_bytes)]


def _small_source(plan: Plan) -> str:
    """Return the filters from a decoded, upright picture to a small one as a player should show it."""
    rung = plan.rungs[-1]
    lines = f"{plan.video.lines_times}*ih"
    square = f"scale=w='max(2,iw*if(between(sar,0.05,20),sar,1))':h={lines}:flags=area,setsar=1"
    box = f"{rung.width}:{rung.height}"
    fitted = f"scale={box}:force_original_aspect_ratio=decrease:flags=area,pad={box}:-1:-1"
    is_whole = plan.video.first_field == "none"
    woven = [WEAVE] if is_whole and plan.video.pix_fmt.startswith(("yuv4", "yuvj4")) else []
    return ",".join(
        (NAMED, *woven, square, fitted, *reference_colours(plan.video, rung.width, rung.height), SMALL)
    )


def _output(segments: str, pick: str, folder: str, most: int | None = None) -> Reading:
    last = [] if most is None else ["-frames:v", str(most)]

    def outputs(number: int) -> list[str]:
        graph = f"[{number}:v]{pick},{NAMED},{SMALL}[p{number}]"
        return ["-filter_complex", graph, "-map", f"[p{number}]", *last, *AS_FILES, f"{folder}/%d.ppm"]

    return Reading(("-i", segments), outputs)


def joined(list_path: str) -> str:
    """Return the URL of the concatenated files listed at `list_path`.

    Hundreds of names would not fit into a command line.
    """
    return f"concatf:{list_path}"


def segment_list(segments: Sequence[str]) -> str:
    """Return the list that `joined` reads: a quoted path on each line."""
    quoted = (segment.replace("'", r"'\''") for segment in segments)
    return "".join(f"'{segment}'\n" for segment in quoted)


def _thinned(begin: float, end: float) -> str:
    """Return the filter that selects a few pictures per second between two moments."""
    first_or_later = f"isnan(prev_selected_t)+gte(t-prev_selected_t,{DENSE_SECONDS - 0.001})"
    return f"select='between(t,{begin:.6f},{end:.6f})*({first_or_later})'"
