"""The command line that encodes one chunk: a pure function of the plan.

One ffmpeg process decodes the source once and writes every rendition. The source is opened twice, because
video and audio have different seek points. Timestamps are those of the whole video (`-copyts`), shifted by a
constant, so that segments of all chunks form one timeline.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from services.transcoder.command.audio import (
    EVERY_ERROR,
    audio_bit_rates,
    audio_graph,
    audio_options,
    audio_path,
    is_silent,
)
from services.transcoder.command.video import (
    decoder_options,
    decodes_on_gpu,
    tolerant_seek,
    video_graph,
    video_options,
)
from services.transcoder.ffmpeg.input import input_url, source_input
from services.transcoder.plan.timeline import AUDIO_RATE

if TYPE_CHECKING:
    from services.transcoder.command.video import EncoderName
    from services.transcoder.plan.model import Chunk, Plan

BASE_SECONDS: Final = 10  # output zero on the segments' clock: keeps decode times positive
SEGMENT_NAME: Final = "segment_%03d.ts"
# PAT, PMT and SDT once, where a segment begins (RFC 8216, 3.2): ten times a second would cost 33 kbit/s.
TABLES: Final = "pat_period=86400:sdt_period=86400"
# A graph rebuilt on a size change would lose its frame count; its first filters accept any size.
NO_REBUILD: Final = ("-reinit_filter", "0")
KEY_FRAMES: Final = ("-skip_frame", "nokey")
# One thread: each decoder thread takes some of the GPU's 32 surfaces without making it faster.
HARDWARE: Final = ("-hwaccel", "cuda", "-hwaccel_output_format", "cuda", "-threads", "1")


def chunk_argv(
    plan: Plan,
    chunk: Chunk,
    source_path: str,
    outdir: str,
    encoder: EncoderName,
    *,
    tolerant: bool = False,
    key_frames_only: bool = False,
    audio_from_file: bool = False,
    gpu_decode: bool = True,
) -> list[str]:
    """Return the ffmpeg command that writes `chunk` to `<outdir>/<rendition>/segment_NNN.ts`.

    `tolerant` is for damaged sources: it also reads the previous chunk, and fills gaps with held pictures and
    silence instead of ending early; with `key_frames_only` it reads only key frames, from the beginning. With
    `tolerant` or `audio_from_file` the sound comes from the file that `audio_argv` writes. `gpu_decode`
    allows decoding on the GPU as well, if the GPU supports all of it.
    """
    from_file = tolerant or audio_from_file
    on_gpu = gpu_decode and decodes_on_gpu(plan, chunk, encoder, tolerant=tolerant)
    seek = chunk.video_seek_seconds
    if tolerant:
        seek = None if key_frames_only else tolerant_seek(plan, chunk)
    graphs = [video_graph(plan, chunk, encoder, tolerant=tolerant, on_gpu=on_gpu, seek_seconds=seek)]
    if plan.audio:
        graphs.append(audio_graph(plan, chunk, from_file=from_file))
    return [
        *("ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-loglevel", "warning", "-y"),
        *("-progress", "pipe:1", "-copyts", *(EVERY_ERROR if tolerant else ())),
        *(KEY_FRAMES if key_frames_only else ()),
        *video_input(plan, source_path, seek, on_gpu=on_gpu),
        *_audio_input(plan, chunk, source_path, outdir, from_file=from_file),
        *(word for graph in graphs for word in ("-filter_complex", graph)),
        *_streams(plan),
        *video_options(plan, chunk, encoder),
        *(audio_options(plan, chunk) if plan.audio else ()),
        *_files(plan, chunk, outdir),
    ]


def video_input(plan: Plan, path: str, seek: float | None, *, on_gpu: bool) -> list[str]:
    """Return the options that open the source as an input for pictures, read from about `seek` seconds on."""
    hardware = HARDWARE if on_gpu else ()
    decoder = decoder_options(plan.video)
    return [*hardware, "-noautorotate", *NO_REBUILD, *decoder, *source_input(path, seek, plan.probe_bytes)]


def _audio_input(plan: Plan, chunk: Chunk, path: str, outdir: str, *, from_file: bool) -> list[str]:
    if plan.audio is None:
        return []
    if is_silent(plan, chunk):
        return ["-f", "lavfi", "-i", f"anullsrc=sample_rate={AUDIO_RATE}:channel_layout=stereo"]
    if from_file:
        return ["-i", input_url(audio_path(outdir))]
    return ["-vn", *NO_REBUILD, *source_input(path, chunk.audio_seek_seconds, plan.probe_bytes)]


def _streams(plan: Plan) -> list[str]:
    """Return the options that select the encoded streams, and exclude everything else."""
    labels = [f"[v{number}]" for number in range(len(plan.rungs))]
    labels += [f"[a{number}]" for number in range(len(audio_bit_rates(plan)))]
    maps = [word for label in labels for word in ("-map", label)]
    return [*maps, "-fps_mode", "passthrough", "-map_metadata", "-1", "-map_chapters", "-1"]


def _files(plan: Plan, chunk: Chunk, outdir: str) -> list[str]:
    """Return the muxer options of segments: one clock, no delay, the same layout in every chunk.

    One muxer gives each rendition its pictures and the sound of its bit rate, which is encoded once for all.
    """
    outputs = [_rendition(plan, chunk, number, outdir) for number in range(len(plan.rungs))]
    return ["-muxdelay", "0", "-muxpreload", "0", "-f", "tee", "|".join(outputs)]


def _rendition(plan: Plan, chunk: Chunk, number: int, outdir: str) -> str:
    """Return one output of the tee muxer: its options in brackets, then the pattern of its files."""
    rung, rates = plan.rungs[number], audio_bit_rates(plan)
    sound = f",a:{rates.index(rung.audio_bps)}" if rates else ""
    options = [
        "f=segment",
        rf"select=\'v:{number}{sound}\'",
        f"output_ts_offset={BASE_SECONDS}",
        "segment_format=mpegts",
        rf"segment_format_options=\'{TABLES}\'",
        _cuts(plan, chunk),
        f"segment_start_number={chunk.first_segment}",
    ]
    return f"[{':'.join(options)}]{_escaped(f'{outdir}/{rung.name}/{SEGMENT_NAME}')}"


def _escaped(path: str) -> str:
    """Return `path`, escaped for the tee muxer."""
    return re.sub(r"([\\'|])", r"\\\1", path)


def _cuts(plan: Plan, chunk: Chunk) -> str:
    """Return where segments end, in frames of the chunk; for a single one, a time that is never reached."""
    cuts = [start - chunk.first_frame for start in plan.starts_in(chunk)[1:]]
    return f"segment_frames={','.join(map(str, cuts))}" if cuts else "segment_time=1000000"
