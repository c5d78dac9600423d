"""Convert a generated source and return differences of its video without a warning."""

from __future__ import annotations

import subprocess
from itertools import groupby
from typing import TYPE_CHECKING, Final

import numpy as np

from services.transcoder.content.check import DAMAGED
from services.transcoder.encode.chunk import encode_chunk
from services.transcoder.encode.select_encoder import Encoder
from services.transcoder.plan.ladder import Preset
from services.transcoder.plan.make_plan import make_plan
from shared.contracts.warnings import VideoWarning, WarningCode
from shared.errors import SourceError
from tests.media import BITS, HEIGHT, RATE, TONE_HZ, WIDTH, read_numbers, read_sound

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from services.transcoder.plan.model import Plan
    from tests.generated.case import Case

PRESETS: Final = (Preset("96p", 96, 300_000, 128_000),)
X264: Final = Encoder("libx264")
WINDOW: Final = 4800
FORBIDDEN: Final = ("ffmpeg", "ffprobe", "0x", "no reason given", "Invalid data", "Traceback")


async def judge(case: Case, source: Path, folder: Path) -> list[str]:
    """Return the differences between the result of `source` and `case`; empty if there are none."""
    try:
        plan = await make_plan(source, PRESETS, segment_seconds=4, chunk_seconds=8)
    except SourceError as error:
        return _judge_refusal(case, error)
    video, differences = await _encode(plan, source, folder)
    warnings = [*plan.warnings, *differences]
    return [
        *_judge_pictures(case, plan, source, video, warnings),
        *_judge_length(case, plan),
        *(_judge_sound(case, plan, video) if case.sound is not None else []),
    ]


def _judge_refusal(case: Case, error: SourceError) -> list[str]:
    words = [word for word in FORBIDDEN if word in error.message]
    said = [f"a refusal says {word!r}: {error.message}" for word in words]
    return said if case.may_be_refused else [*said, f"refused: {error.message}"]


async def _encode(plan: Plan, source: Path, folder: Path) -> tuple[Path, list[VideoWarning]]:
    """Return all segments of the video in one file, and the findings of the content check."""
    path = folder / "video.ts"
    differences: list[VideoWarning] = []
    with path.open("wb") as file:
        for chunk in plan.chunks:
            place = folder / str(chunk.index)
            encoded = await encode_chunk(plan, chunk.index, source, place, X264, check="quick")
            differences += encoded.differences
            if encoded.has_gaps or encoded.is_held:
                differences.append(VideoWarning(code=WarningCode.SOURCE_DAMAGED, message=DAMAGED))
            for segment in sorted(encoded.segments, key=lambda segment: segment.index):
                file.write(segment.path.read_bytes())
    return path, differences


def _judge_pictures(
    case: Case, plan: Plan, source: Path, video: Path, warnings: list[VideoWarning]
) -> list[str]:
    codes = {warning.code for warning in warnings}
    rung = plan.rungs[0]
    shown = [number for number, _ in groupby(read_numbers(video, rung.width, rung.height))]
    decoded = [number for number, _ in groupby(decoded_numbers(source, plan.video.index))]
    lost = [number for number in decoded if number not in set(shown)]
    unfilmed = [number for number in case.filmed if number not in set(shown)]
    problems = []
    if len(lost) > case.may_lose:
        problems.append(f"{len(lost)} of {len(decoded)} pictures that decode are not shown: {lost[:10]}")
    if unfilmed and not case.codes & codes and len(unfilmed) > case.may_lose:
        problems.append(
            f"{len(unfilmed)} pictures are missing without a warning: {unfilmed[:10]}; warnings: {codes}"
        )
    if extra := codes - case.codes - case.allowed:
        problems.append(f"false alarm: {[w.message for w in warnings if w.code in extra]}")
    if not unfilmed and shown != [number for number, _ in groupby(case.filmed)]:
        problems.append(f"pictures are out of order: {shown[:20]} …")
    return problems


def decoded_numbers(source: Path, index: int) -> list[int]:
    """Return the number shown by each picture that FFmpeg decodes from the file without the pipeline."""
    command = [
        "ffmpeg",
        "-loglevel",
        "quiet",
        "-i",
        str(source),
        "-map",
        f"0:{index}",
        "-fps_mode",
        "passthrough",
    ]
    scale = ["-vf", f"scale={WIDTH}:{HEIGHT}"]
    raw = subprocess.run(
        [*command, *scale, "-f", "rawvideo", "-pix_fmt", "gray", "-"], check=False, stdout=subprocess.PIPE
    ).stdout
    frames = np.frombuffer(raw[: len(raw) // (WIDTH * HEIGHT) * WIDTH * HEIGHT], np.uint8)
    pictures = frames.reshape(-1, HEIGHT, WIDTH)
    centres = ((np.arange(BITS) + 0.5) * WIDTH / BITS).astype(int)
    bits = pictures[:, HEIGHT // 2 - 4 : HEIGHT // 2 + 4, :][:, :, centres].mean(axis=1) > 128
    return [int(number) for number in bits @ (1 << np.arange(BITS - 1, -1, -1))]


def _judge_length(case: Case, plan: Plan) -> list[str]:
    if case.seconds is None or abs(plan.duration_seconds - case.seconds) <= case.tolerance_seconds:
        return []
    return [f"it lasts {plan.duration_seconds:.3f} s instead of {case.seconds:.3f} s"]


def _judge_sound(case: Case, plan: Plan, video: Path) -> list[str]:
    heard = _tone_seconds(read_sound(video)) if plan.audio else 0.0
    slack = case.tolerance_seconds + 0.15
    if case.sound is None or abs(heard - case.sound) <= slack:
        return []
    return [f"the tone is heard for {heard:.2f} s instead of {case.sound:.2f} s"]


def _tone_seconds(sound: NDArray[np.float32]) -> float:
    """Return the duration of the clips' tone."""
    count = len(sound) // WINDOW
    wave = np.exp(-2j * np.pi * TONE_HZ * np.arange(WINDOW) / RATE)
    strength = np.abs((sound[: count * WINDOW].reshape(count, WINDOW) * wave).sum(axis=1)) / WINDOW
    return float((strength > 0.02).sum() * WINDOW / RATE)
