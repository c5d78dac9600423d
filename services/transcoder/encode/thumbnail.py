"""The thumbnail: four moments of the video in a 2x2 grid, as JPEG."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.transcoder.command.colour import scale_to_bt709
from services.transcoder.command.deinterlace import full_height
from services.transcoder.command.timestamps import moved_to
from services.transcoder.command.video import decoder_options, one_shape
from services.transcoder.ffmpeg.input import Limits, input_options, input_url
from services.transcoder.ffmpeg.runner import RUNNER, expect_uninterrupted, require_success
from services.transcoder.ffmpeg.sandbox import Access
from services.transcoder.ffmpeg.task_group import together
from services.transcoder.media import SEEKING, WAITS_FOR_COMPLETE
from services.transcoder.plan.chunk_reads import THUMBNAIL_MOMENTS as MOMENTS
from shared.errors import CorruptSource, EncodeStalled

if TYPE_CHECKING:
    from services.transcoder.ffmpeg.runner import FfmpegRunner, Finished
    from services.transcoder.plan.model import Plan

MAX_SIDE: Final = 640  # of one of the four pictures
TIMEOUT_SECONDS: Final = 120
MAX_RUN_IN_SECONDS: Final = 30
COMMAND: Final = ("ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-loglevel", "error", "-y")
PROGRESS: Final = ("-progress", "pipe:1")
KEY_FRAMES: Final = ("-skip_frame", "nokey")
MAX_GOP_SECONDS: Final = 15  # encoders usually place key frames closer than this
GRID: Final = "xstack=inputs=4:layout=0_0|w0_0|0_h0|w0_h0"
# JPEG has the colours of BT.601 in full range (JFIF 1.02).
FROM_BT709: Final = "scale=in_color_matrix=bt709:in_range=limited:out_color_matrix=bt601:out_range=full"
JPEG_PIXELS: Final = "format=yuvj420p"
JPEG: Final = ("-frames:v", "1", "-q:v", "3", "-map_metadata", "-1", "-f", "image2", "-update", "1")


async def make_thumbnail(
    plan: Plan, source_path: str | Path, out_path: str | Path, *, runner: FfmpegRunner = RUNNER
) -> None:
    """Write the JPEG of four moments to `out_path`.

    One process draws all of them: in a single pass if key frames are rare, else with a seek for each. If that
    fails, each is tried separately, and a moment that cannot be decoded is replaced by one that can; raises
    CorruptSource if there is none.
    """
    out = Path(out_path)  # temporary files next to it, where the sweep finds the remains of a killed planner
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f"{out.stem}.", suffix=".parts") as folder:
        whole = Path(folder, out.name)
        if is_read_through(plan):
            await _draw_reading_on(runner, plan, str(source_path), whole)
        else:
            await _draw_seeking(runner, plan, str(source_path), whole)
        await asyncio.to_thread(whole.rename, out)


def is_read_through(plan: Plan) -> bool:
    """Return whether the moments are so far from key frames that a single pass is cheaper than seeking."""
    video = plan.video
    starts_again = video.time_map is not None and len(video.time_map.sections) > 1
    return starts_again or plan.longest_run_in_seconds > MAX_RUN_IN_SECONDS


async def _draw_reading_on(runner: FfmpegRunner, plan: Plan, source_path: str, whole: Path) -> None:
    """Draw the moments reached by one pass from the beginning, within a time limit."""
    folder = str(whole.parent)
    with contextlib.suppress(EncodeStalled):
        argv = reading_argv(plan, source_path, f"{folder}/%d.png")
        expect_uninterrupted(await _extract(runner, argv, source_path, folder), "thumbnail")
    await _lay_out(runner, [Path(folder, f"{number}.png") for number in range(1, len(MOMENTS) + 1)], whole)


async def _draw_seeking(runner: FfmpegRunner, plan: Plan, source_path: str, whole: Path) -> None:
    finished = await _extract(
        runner, moments_argv(plan, source_path, str(whole)), source_path, str(whole.parent)
    )
    expect_uninterrupted(finished, "thumbnail")
    if finished.returncode or not await asyncio.to_thread(whole.exists):
        await _draw_one_by_one(runner, plan, source_path, whole)


async def _draw_one_by_one(runner: FfmpegRunner, plan: Plan, source_path: str, whole: Path) -> None:
    folder = str(whole.parent)
    cells = [Path(folder, f"{number}.png") for number in range(len(MOMENTS))]
    await together(
        *(
            _extract(runner, cell_argv(plan, source_path, moment, str(cell)), source_path, folder)
            for cell, moment in zip(cells, MOMENTS, strict=True)
        )
    )
    if not any(cell.exists() for cell in cells):
        any_picture = cell_argv(plan, source_path, None, str(cells[0]))
        expect_uninterrupted(await _extract(runner, any_picture, source_path, folder), "thumbnail")
    await _lay_out(runner, cells, whole)


async def _lay_out(runner: FfmpegRunner, cells: list[Path], whole: Path) -> None:
    """Combine the pictures; the first one replaces missing ones."""
    folder = str(whole.parent)
    made = [cell for cell in cells if cell.exists()]
    if not made:
        raise CorruptSource("no picture can be decoded from the video stream: the file is damaged")
    chosen = [cell if cell.exists() else made[0] for cell in cells]
    finished = await _extract(runner, grid_argv([str(cell) for cell in chosen], str(whole)), folder, folder)
    require_success(finished, "thumbnail")


async def _extract(runner: FfmpegRunner, argv: list[str], reads: str, writes: str) -> Finished:
    return await runner.run_ffmpeg(
        argv,
        frames=1,
        timeout_seconds=TIMEOUT_SECONDS,
        stall_seconds=TIMEOUT_SECONDS,
        access=Access(reads=(reads,), writes=(writes,)),
    )


def cell_size(plan: Plan) -> tuple[int, int]:
    """Return the even width and height of one of the four pictures: never larger than the video."""
    top = plan.rungs[0]
    scale = min(1.0, MAX_SIDE / max(top.width, top.height))
    width, height = (max(2, int(side * scale / 2) * 2) for side in (top.width, top.height))
    return width, height


def moments_argv(plan: Plan, source_path: str, out_path: str) -> list[str]:
    """Return the command that draws all moments, at key frames if these are dense enough."""
    are_far = plan.duration_seconds / len(MOMENTS) > MAX_GOP_SECONDS and not _begins_incomplete(plan)
    by_key = ["-noaccurate_seek", *KEY_FRAMES] if are_far else []
    inputs = [word for moment in MOMENTS for word in (*by_key, *_input(plan, source_path, moment))]
    pictures = ",".join(_filters(plan))
    cells = [f"[{number}:{plan.video.index}]{pictures}[c{number}]" for number in range(len(MOMENTS))]
    labels = "".join(f"[c{number}]" for number in range(len(MOMENTS)))
    graph = ";".join((*cells, f"{labels}{GRID},{FROM_BT709},{JPEG_PIXELS}"))
    return [*COMMAND, *PROGRESS, *inputs, "-filter_complex", graph, *JPEG, out_path]


def reading_argv(plan: Plan, source_path: str, out_pattern: str) -> list[str]:
    """Return the command that writes the four moments one after the other: it decodes the video once."""
    zero = plan.video.first_pts - round(plan.lead_frames / plan.rate / plan.video.time_base)
    moments = [f"{moment * plan.duration_seconds:.6f}" for moment in MOMENTS]
    reached = "+".join(f"gte(t,{moment})" for moment in moments)
    before = "+".join(f"gte(prev_t,{moment})" for moment in moments)
    chosen = [moved_to("setpts", plan.video.time_map, zero), f"select='gt({reached},{before})'"]
    return [
        *(*COMMAND, *PROGRESS, "-copyts"),
        *_input(plan, source_path, None),
        *("-map", f"0:{plan.video.index}", "-vf", ",".join([*chosen, *_filters(plan)])),
        *("-fps_mode", "passthrough", "-frames:v", str(len(MOMENTS))),
        *("-map_metadata", "-1", "-f", "image2", out_pattern),
    ]


def cell_argv(plan: Plan, source_path: str, moment: float | None, out_path: str) -> list[str]:
    """Return the command that writes the picture at `moment` (0 to 1; None: the first that decodes)."""
    return [
        *COMMAND,
        *PROGRESS,
        *_input(plan, source_path, moment),
        *("-map", f"0:{plan.video.index}", "-vf", ",".join(_filters(plan))),
        *("-frames:v", "1", "-map_metadata", "-1", "-f", "image2", "-update", "1", out_path),
    ]


def _filters(plan: Plan) -> list[str]:
    width, height = cell_size(plan)
    turned = (height, width) if plan.video.is_turned else (width, height)
    shaped = [*full_height(plan.video), *one_shape(plan.video)]
    return [*shaped, *scale_to_bt709(plan.video, *turned), *plan.video.orientation, "setsar=1"]


def _begins_incomplete(plan: Plan) -> bool:
    """Return whether decoding begins at any packet after a seek, with pictures that are not complete."""
    return SEEKING.get(plan.container, "near") == "near" and plan.video.codec not in WAITS_FOR_COMPLETE


def _input(plan: Plan, source_path: str, moment: float | None) -> list[str]:
    """Return the options that read the source at `moment`, or from the key frame before it."""
    seek, back = [], 0.0
    if _begins_incomplete(plan):
        seek, back = [*KEY_FRAMES, "-noaccurate_seek"], plan.longest_run_in_seconds
    if moment is not None:
        seek += ["-seek_timestamp", "1", "-ss", f"{_seconds(plan, moment) - back:.6f}"]
    options = [*input_options(Limits().pixels, plan.probe_bytes), *decoder_options(plan.video)]
    return ["-noautorotate", *options, *seek, "-i", input_url(source_path)]


def _seconds(plan: Plan, moment: float) -> float:
    """Return the moment on the file's clock, not beyond the last picture."""
    video = plan.video
    last = video.frames - video.tail_frames - 1
    frame = max(0, min(int(plan.total_frames * moment) - plan.lead_frames, last))
    ticks = round((frame - Fraction(1, 2) * (frame > 0)) / (plan.rate * video.time_base))
    return float(video.on_file_clock(video.first_pts + ticks) * video.time_base)


def grid_argv(cells: list[str], out_path: str) -> list[str]:
    """Return the command that combines four equal pictures in a 2x2 grid."""
    inputs = [option for cell in cells for option in ("-i", cell)]
    return [*COMMAND, *PROGRESS, *inputs, "-filter_complex", f"{GRID},{JPEG_PIXELS}", *JPEG, out_path]
