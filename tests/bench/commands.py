"""Every command line of the encoding benchmark: pure functions, settings taken from the product itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.transcoder.codecs.h264_x264 import X264
from services.transcoder.codecs.rate_control import BUFFER_AT_START
from services.transcoder.command.colour import OUTPUT_TAGS, PIXELS
from services.transcoder.command.video import NO_KEY_FRAMES, limits_of, x264_options
from services.transcoder.plan.ladder import DEFAULT_PRESETS, build_ladder
from services.transcoder.plan.timeline import AUDIO_RATE, KEY_FRAME_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from services.transcoder.plan.ladder import Rung

WIDTH: Final = 1920
HEIGHT: Final = 1080
RATE: Final = 30
MEZZANINE_BPS: Final = 12_000_000
SEGMENT_SECONDS: Final = 10
PRESET: Final = "veryfast"
PLAIN_PEAK: Final = 1.5  # over the average, and the seconds of buffer: as HLS ladders usually have them
PLAIN_BUFFER_SECONDS: Final = 2
LADDER: Final = build_ladder(WIDTH, HEIGHT, DEFAULT_PRESETS)
TINY_LADDER: Final = build_ladder(64, 36, DEFAULT_PRESETS)
FFMPEG: Final = ("ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-loglevel", "error", "-y")
KEY_FRAMES: Final = (
    *("-g", NO_KEY_FRAMES, "-forced-idr", "1"),
    *("-force_key_frames", f"expr:gte(t,n_forced*{KEY_FRAME_SECONDS})"),
    *OUTPUT_TAGS,
)


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the source: where it starts and how many frames it holds."""

    start_frame: int
    frames: int


def _mezzanine_options(seconds: float, target: Path) -> list[str]:
    """Return how sources are written: as a camera or an editor would deliver them."""
    bit_rate = ["-b:v", str(MEZZANINE_BPS), "-maxrate", str(MEZZANINE_BPS * 3 // 2)]
    return [
        *("-t", f"{seconds:g}", "-c:v", "libx264", "-preset", "veryfast", "-profile:v", "high"),
        *(*bit_rate, "-bufsize", str(MEZZANINE_BPS * 2), "-g", "60"),
        *OUTPUT_TAGS,
        *("-c:a", "aac", "-b:a", "192k", "-ar", str(AUDIO_RATE), "-ac", "2", "-movflags", "+faststart"),
        str(target),
    ]


def synthetic_source(seconds: float, target: Path) -> list[str]:
    """Return the command that draws a test picture, a zoom into the Mandelbrot set and noise, with a tone."""
    graph = (
        f"testsrc2=size={WIDTH}x{HEIGHT}:rate={RATE}[test];"
        f"mandelbrot=size=640x360:rate={RATE}:maxiter=300[zoom];"
        f"[test][zoom]overlay=x=640+200*sin(t):y=360+100*cos(t),noise=alls=6:allf=t,format={PIXELS}[v]"
    )
    tone = f"sine=frequency=440:sample_rate={AUDIO_RATE}"
    inputs = ["-f", "lavfi", "-i", tone, "-filter_complex", graph, "-map", "[v]", "-map", "0:a"]
    return [*FFMPEG, *inputs, *_mezzanine_options(seconds, target)]


def tiny_source(seconds: float, target: Path) -> list[str]:
    """Return the command that draws a test picture of 64x36 pixels, with a tone."""
    picture = f"testsrc2=size=64x36:rate={RATE},format={PIXELS}"
    tone = f"sine=frequency=440:sample_rate={AUDIO_RATE}"
    inputs = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", tone]
    return [*FFMPEG, *inputs, *_mezzanine_options(seconds, target)]


def real_source(clips: Sequence[Path], seconds: float, target: Path) -> list[str]:
    """Return the command that shows `clips` one after the other, each looped to its share of `seconds`."""
    share = f"{seconds / len(clips):.6f}"
    inputs = [word for clip in clips for word in ("-stream_loop", "-1", "-t", share, "-i", str(clip))]
    fit = f"scale={WIDTH}:{HEIGHT}:force_original_aspect_ratio=decrease:flags=bicubic:out_color_matrix=bt709"
    pad = f"pad={WIDTH}:{HEIGHT}:-1:-1,setsar=1,fps={RATE},format={PIXELS}"
    sound = f"aresample={AUDIO_RATE},aformat=sample_fmts=fltp:channel_layouts=stereo"
    chains = [
        f"[{number}:v:0]{fit},{pad}[v{number}];[{number}:a:0]{sound}[a{number}]"
        for number in range(len(clips))
    ]
    pads = "".join(f"[v{number}][a{number}]" for number in range(len(clips)))
    # Looping ends on whole frames: the last picture and silence fill up what is missing.
    joined = f"{pads}concat=n={len(clips)}:v=1:a=1[v][sound];[v]tpad=stop_mode=clone:stop=-1[picture]"
    graph = ";".join((*chains, joined, "[sound]apad[filled]"))
    mapped = ["-filter_complex", graph, "-map", "[picture]", "-map", "[filled]"]
    return [*FFMPEG, *inputs, *mapped, *_mezzanine_options(seconds, target)]


def plain_options(rung: Rung, threads: int) -> list[str]:
    """Return the x264 options of one rendition as one would write them: an average rate, a preset."""
    return [
        *("-c:v", "libx264", "-preset", PRESET, "-profile:v", "high", "-pix_fmt", PIXELS),
        *("-threads:v", str(threads), "-sc_threshold", "0"),
        *("-b:v", str(rung.video_bps), "-maxrate:v", str(int(rung.video_bps * PLAIN_PEAK))),
        *("-bufsize:v", str(rung.video_bps * PLAIN_BUFFER_SECONDS)),
        *KEY_FRAMES,
    ]


def our_options(rung: Rung, buffer_at_start: float = BUFFER_AT_START) -> list[str]:
    """Return the x264 options of one rendition as the transcoder gives them, key frames by time."""
    allowed = limits_of(rung)
    own = x264_options(rung, buffer_at_start) | {
        "-maxrate": str(allowed.peak_bps),
        "-bufsize": str(allowed.buffer_bits),
    }
    return [
        *X264,
        *(word for name, value in own.items() for word in (f"{name}:v", value)),
        *("-pix_fmt", PIXELS),
        *KEY_FRAMES,
    ]


def sound_options(rung: Rung) -> list[str]:
    """Return the AAC options of one rendition."""
    return ["-c:a", "aac", "-b:a", str(rung.audio_bps), "-ar", str(AUDIO_RATE), "-ac", "2"]


def per_rendition(source: Path, rung: Rung, folder: Path, threads: int) -> list[str]:
    """Return the usual command: one process that decodes, scales and encodes one rendition to HLS."""
    return [
        *FFMPEG,
        *("-i", str(source), "-map", "0:v:0", "-map", "0:a:0"),
        *("-vf", f"scale={rung.width}:{rung.height}:flags=bicubic,setsar=1"),
        *plain_options(rung, threads),
        *sound_options(rung),
        *("-f", "hls", "-hls_time", str(SEGMENT_SECONDS), "-hls_playlist_type", "event"),
        *("-hls_segment_filename", str(folder / "segment_%03d.ts"), str(folder / "playlist.m3u8")),
    ]


def pieces(total_frames: int, piece_frames: int) -> list[Piece]:
    """Cut `total_frames` into pieces of `piece_frames`; the last may be shorter."""
    return [
        Piece(start, min(piece_frames, total_frames - start))
        for start in range(0, total_frames, piece_frames)
    ]


def frame_bytes(rung: Rung) -> int:
    """Return the size of a raw frame, 8-bit 4:2:0."""
    return rung.width * rung.height * 3 // 2


def piece_length(free_bytes: int, ladder: Sequence[Rung], seconds: int = SEGMENT_SECONDS) -> int:
    """Return how many frames a piece may have so that all its sizes fill at most half of `free_bytes`."""
    return min(seconds * RATE, free_bytes // 2 // sum(map(frame_bytes, ladder)))


def raw_file(folder: Path, rung: Rung) -> Path:
    """Name the raw frames of one rendition."""
    return folder / f"{rung.name}.yuv"


def raw_pieces(source: Path, piece: Piece, ladder: Sequence[Rung], folder: Path) -> list[str]:
    """Return the command that writes a piece of the source as raw frames in every size; not measured."""
    labels = "".join(f"[i{number}]" for number in range(len(ladder)))
    scaled = ";".join(
        f"[i{number}]scale={rung.width}:{rung.height}:flags=bicubic,setsar=1[o{number}]"
        for number, rung in enumerate(ladder)
    )
    outputs = [
        word
        for number, rung in enumerate(ladder)
        for word in (
            *("-map", f"[o{number}]", "-frames:v", str(piece.frames), "-pix_fmt", PIXELS),
            *("-f", "rawvideo", str(raw_file(folder, rung))),
        )
    ]
    seek = f"{max(0.0, (piece.start_frame - 0.5) / RATE):.6f}"
    graph = f"[0:v:0]split={len(ladder)}{labels};{scaled}"
    return [*FFMPEG, "-ss", seek, "-i", str(source), "-filter_complex", graph, *outputs]


def bare_encode(rung: Rung, folder: Path) -> list[str]:
    """Return the command that reads raw frames and encodes them to nowhere."""
    size = f"{rung.width}x{rung.height}"
    return [
        *FFMPEG,
        *("-f", "rawvideo", "-pixel_format", PIXELS, "-video_size", size, "-framerate", str(RATE)),
        *("-i", str(raw_file(folder, rung)), *our_options(rung), "-f", "null", "-"),
    ]


def bare_decode(source: Path) -> list[str]:
    """Return the command that decodes the picture to nowhere."""
    return [*FFMPEG, "-i", str(source), "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "null", "-"]


def bare_sound(source: Path, rung: Rung) -> list[str]:
    """Return the command that decodes the sound and encodes it once."""
    return [*FFMPEG, "-i", str(source), "-map", "0:a:0", *sound_options(rung), "-f", "null", "-"]


def compare(source: Path, encoded: Path, rung: Rung, seconds: float) -> list[str]:
    """Return the command that prints PSNR and SSIM of a rendition against the source scaled to its size.

    Both are counted frame by frame from the first, whatever their clocks say.
    """
    steps = f"settb=1/{RATE},setpts=N"
    limit = ("-t", f"{seconds:g}")
    graph = (
        f"[0:v:0]{steps},format={PIXELS},split[d0][d1];"
        f"[1:v:0]scale={rung.width}:{rung.height}:flags=bicubic,{steps},format={PIXELS},split[r0][r1];"
        "[d0][r0]psnr=shortest=1[p];[d1][r1]ssim=shortest=1[s]"
    )
    return [
        *("ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-loglevel", "info"),
        *(*limit, "-i", str(encoded), *limit, "-i", str(source), "-filter_complex", graph),
        *("-map", "[p]", "-f", "null", "-", "-map", "[s]", "-f", "null", "-"),
    ]


def packet_sizes(path: Path) -> list[str]:
    """Return the command that lists the size in bytes of every picture packet."""
    shown = ("-show_entries", "packet=size", "-of", "csv=p=0")
    return ["ffprobe", "-v", "error", "-select_streams", "v:0", *shown, str(path)]


def shaka(program: Path, folder: Path, *, with_binaries_on_path: bool = False) -> list[str]:
    """Return the command that runs Shaka Streamer as configured in `folder`, output to `folder`/out."""
    argv = [str(program), "-i", str(folder / "input.json"), "-p", str(folder / "pipeline.json")]
    argv += ["-b", str(folder / "bitrates.json"), "-o", str(folder / "out")]
    return [*argv, "--use-system-binaries"] if with_binaries_on_path else argv


def shaka_configuration(source: Path, ladder: Sequence[Rung]) -> dict[str, object]:
    """Return Shaka Streamer's three configuration files by name (JSON is YAML).

    Its key frames follow from its segments, so that equal key frames require segments of two seconds. It has
    no setting for peak rate, buffer or preset.
    """
    inputs = [{"name": str(source), "media_type": kind} for kind in ("video", "audio")]
    names = [rung.name for rung in ladder]
    pipeline = {
        "streaming_mode": "vod",
        "quiet": True,
        "resolutions": names,
        "channel_layouts": ["stereo"],
        "audio_codecs": ["aac"],
        "video_codecs": ["h264"],
        "manifest_format": ["hls"],
        "hls_output": "master.m3u8",
        "segment_size": KEY_FRAME_SECONDS,
    }
    resolutions = {
        rung.name: {
            "max_width": rung.width,
            "max_height": rung.height,
            "bitrates": {"h264": _kilobits(rung.video_bps)},
        }
        for rung in ladder
    }
    layouts = {"stereo": {"max_channels": 2, "bitrates": {"aac": _kilobits(ladder[0].audio_bps)}}}
    return {
        "input.json": {"inputs": inputs},
        "pipeline.json": pipeline,
        "bitrates.json": {"video_resolutions": resolutions, "audio_channel_layouts": layouts},
    }


def _kilobits(bps: int) -> str:
    return f"{bps // 1000}k"


def preset_wrapper(ffmpeg: str) -> str:
    """Return a shell script that runs `ffmpeg` with our preset where Shaka Streamer asks for its own."""
    return (
        "#!/bin/sh\n"
        "for word do\n"
        "    shift\n"
        f'    [ "$word" = slow ] && word={PRESET}\n'
        '    set -- "$@" "$word"\n'
        "done\n"
        f'exec "{ffmpeg}" "$@"\n'
    )


def shortened(argv: Sequence[str], names: Mapping[str, str]) -> str:
    """Return `argv` for display: directories replaced by their names, words with spaces quoted."""
    words = []
    for word in argv:
        for directory, name in names.items():
            word = word.replace(directory, name)  # noqa: PLW2901
        words.append(f"'{word}'" if any(letter in word for letter in " ;[]()'*") else word)
    return " ".join(words)
