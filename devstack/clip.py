"""Generates the demo clip: moving shapes over a colour gradient, and a short melody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devstack.ffmpeg_progress import run_ffmpeg

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from devstack.console import Advance

SECONDS = 30
NOTE_SECONDS = 0.5
MELODY_HZ = (261.63, 329.63, 392.00, 523.25, 440.00, 392.00, 329.63, 293.66)


class ClipError(Exception):
    """ffmpeg could not make the clip; the message has its output."""


async def make_clip(path: Path, advance: Advance) -> None:
    """Write the clip to `path`. Raises ClipError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    outcome = await run_ffmpeg(clip_arguments(path), lambda seconds: advance(seconds / SECONDS, ""))
    if outcome.status != 0:
        raise ClipError(f"making a clip failed: {outcome.complaints}")
    advance(1, "")


def clip_arguments(path: Path) -> list[str]:
    """Return ffmpeg's arguments for 30 s of 1080p with sound."""
    picture = "[0:v]scale=1920:1080:flags=fast_bilinear,format=yuv420p[back];[1:v]format=yuv420p[front];"
    path_of_front = "x='(W-w)*(0.5+0.5*sin(t))':y='(H-h)*(0.5+0.5*cos(t/2))'"
    return [
        *_generated(f"gradients=size=480x270:rate=30:duration={SECONDS}:speed=0.02:n=4:seed=7"),
        *_generated(f"testsrc2=size=960x540:rate=30:duration={SECONDS}"),
        *_generated(f"aevalsrc=exprs='{melody(MELODY_HZ)}':sample_rate=48000:duration={SECONDS}"),
        *(
            "-filter_complex",
            f"{picture}[back][front]overlay={path_of_front}[v]",
            "-map",
            "[v]",
            "-map",
            "2:a",
        ),
        *("-c:v", "libx264", "-preset", "ultrafast", "-crf", "24", "-c:a", "aac", "-b:a", "128k"),
        *("-movflags", "+faststart", "-y", str(path)),
    ]


def melody(notes_hz: Sequence[float]) -> str:
    """Return an aevalsrc expression that plays the notes in turn, each with a decay."""
    since = f"mod(t\\,{NOTE_SECONDS})"
    place = f"mod(floor(t/{NOTE_SECONDS})\\,{len(notes_hz)})"
    pitch = "+".join(f"{hz}*eq({place}\\,{n})" for n, hz in enumerate(notes_hz))
    return f"0.35*sin(2*PI*({pitch})*{since})*exp(-5*{since})*min(1\\,200*{since})"


def _generated(source: str) -> tuple[str, ...]:
    return ("-f", "lavfi", "-i", source)
