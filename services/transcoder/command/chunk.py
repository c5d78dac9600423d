"""The command line that encodes one chunk: a pure function of the plan.

One ffmpeg process decodes the source once and writes every rendition. The source is opened twice: pictures
and sound each have a seek point of their own. Timestamps stay those of the whole video (`-copyts`), shifted
by a constant, so that the segments of all chunks follow each other whoever encoded them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.transcoder.command.audio import audio_graph, audio_options, audio_path, is_silent
from services.transcoder.command.video import decoder_options, decodes_on_gpu, video_graph, video_options
from services.transcoder.ffmpeg.input import input_url, source_input
from services.transcoder.plan.timeline import AUDIO_RATE

if TYPE_CHECKING:
    from services.transcoder.command.packet_clock import PacketClock
    from services.transcoder.command.video import EncoderName
    from services.transcoder.plan.model import Chunk, Plan

BASE_SECONDS: Final = 10  # where output zero lies on the clock of the segments: keeps decode times positive
SEGMENT_NAME: Final = "segment_%03d.ts"
# A graph that is rebuilt when pictures change size loses its count; its first filters take any size.
NO_REBUILD: Final = ("-reinit_filter", "0")
# One thread: each thread of a decoder takes surfaces of the GPU, which has 32, and none makes it faster.
HARDWARE: Final = ("-hwaccel", "cuda", "-hwaccel_output_format", "cuda", "-threads", "1")


def chunk_argv(
    plan: Plan,
    chunk: Chunk,
    source_path: str,
    outdir: str,
    encoder: EncoderName,
    *,
    tolerant: bool = False,
    audio_from_file: bool = False,
    gpu_decode: bool = True,
    packet_clock: PacketClock = "muxer",
) -> list[str]:
    """Return the ffmpeg command that writes `chunk` to `<outdir>/<rendition>/segment_NNN.ts`.

    `tolerant` is for damaged sources: it reads from the beginning and holds pictures and silence wherever
    something is missing, instead of ending short. With it or with `audio_from_file` the sound comes from
    the file that `audio_argv` writes.
    `packet_clock` is how this FFmpeg counts in packet filters.
    `gpu_decode` allows NVENC's pictures to be decoded on the GPU as well, where it can do all of it.
    """
    from_file = tolerant or audio_from_file
    on_gpu = gpu_decode and decodes_on_gpu(plan, chunk, encoder, tolerant=tolerant)
    graphs = ["-filter_complex", video_graph(plan, chunk, encoder, tolerant=tolerant, on_gpu=on_gpu)]
    if plan.audio:
        graphs += ["-filter_complex", audio_graph(plan, chunk, from_file=from_file)]
    outputs = [
        option
        for number, rung in enumerate(plan.rungs)
        for option in (
            *_streams(plan, number),
            *video_options(plan, chunk, rung, encoder, packet_clock),
            *(audio_options(plan, chunk, rung, packet_clock) if plan.audio else ()),
            *_files(plan, chunk, f"{outdir}/{rung.name}/{SEGMENT_NAME}"),
        )
    ]
    return [
        *("ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-loglevel", "warning", "-y"),
        *("-progress", "pipe:1", "-copyts"),
        *_video_input(plan, chunk, source_path, tolerant=tolerant, on_gpu=on_gpu),
        *_audio_input(plan, chunk, source_path, outdir, from_file=from_file),
        *graphs,
        *outputs,
    ]


def _video_input(plan: Plan, chunk: Chunk, path: str, *, tolerant: bool, on_gpu: bool) -> list[str]:
    hardware = HARDWARE if on_gpu else ()
    seek = None if tolerant else chunk.video_seek_seconds
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


def _streams(plan: Plan, number: int) -> list[str]:
    """Return which streams rendition `number` is made of; nothing else of the source gets in."""
    sound = ["-map", f"[a{number}]"] if plan.audio else []
    return [
        "-map",
        f"[v{number}]",
        *sound,
        "-fps_mode",
        "passthrough",
        "-map_metadata",
        "-1",
        "-map_chapters",
        "-1",
    ]


def _files(plan: Plan, chunk: Chunk, pattern: str) -> list[str]:
    """Return how the segments are muxed: on one clock, without delay, laid out alike in every chunk."""
    return [
        *("-output_ts_offset", str(BASE_SECONDS), "-muxdelay", "0", "-muxpreload", "0"),
        *("-f", "segment", "-segment_format", "mpegts", *_cuts(plan, chunk)),
        *("-segment_start_number", str(chunk.first_segment), pattern),
    ]


def _cuts(plan: Plan, chunk: Chunk) -> list[str]:
    """Return where the segments end, in frames of the chunk; a time no chunk reaches where there is one."""
    cuts = [start - chunk.first_frame for start in plan.starts_in(chunk)[1:]]
    return ["-segment_frames", ",".join(map(str, cuts))] if cuts else ["-segment_time", "1000000"]
