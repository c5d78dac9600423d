"""Finds an audible audio track if the preferred one is silent throughout."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from services.transcoder.ffmpeg.input import source_input
from services.transcoder.ffmpeg.runner import RUNNER
from services.transcoder.ffmpeg.sandbox import Access
from services.transcoder.probe.track_choice import choose_tracks, usable_audio
from shared.errors import EncodeStalled

if TYPE_CHECKING:
    from services.transcoder.ffmpeg.input import Limits
    from services.transcoder.ffmpeg.runner import FfmpegRunner
    from services.transcoder.probe.track_choice import Candidates, Choice

MAX_TRACKS: Final = 4  # a silent track is decoded completely
# Passes only what follows the first sample louder than the dither of digital silence.
FROM_FIRST_SOUND: Final = "silenceremove=start_periods=1:start_threshold=-80dB:detection=peak"


async def choose_heard(
    path: str, found: Candidates, limits: Limits, probe_bytes: int = 0, runner: FfmpegRunner = RUNNER
) -> Choice:
    """Return the tracks to convert: an audible audio track, if there is a choice.

    Raises NoVideoStream, or UnsupportedCodec naming the codec.
    """
    first = choose_tracks(found)
    if len(usable_audio(found, first.video)) < 2:
        return first
    choice, silent = first, found.silent
    for _ in range(MAX_TRACKS):
        if choice.audio is None:
            break
        mute = [
            index for index in choice.heard if not await _is_heard(path, index, limits, probe_bytes, runner)
        ]
        if not mute:
            return choice
        silent |= {*mute}
        choice = choose_tracks(replace(found, silent=silent))
    return first


async def _is_heard(path: str, index: int, limits: Limits, probe_bytes: int, runner: FfmpegRunner) -> bool:
    """Return whether a track is audible; stops at the first sound. A timeout counts as audible."""
    heard: list[str] = []

    def take(line: str) -> None:
        if not line.startswith("#"):
            heard.append(line)

    command = [
        *("ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-loglevel", "error", "-vn"),
        *source_input(path, None, probe_bytes),
        *("-map", f"0:{index}", "-af", FROM_FIRST_SOUND, "-frames:a", "1", "-f", "framecrc", "-"),
    ]
    try:
        await runner.run_program(
            command, on_line=take, timeout_seconds=limits.scan_timeout_seconds, access=Access(reads=(path,))
        )
    except EncodeStalled:
        return True
    return bool(heard)
