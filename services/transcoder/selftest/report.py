"""The report of the GPU self-test: table, advice, and the check of a join; pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Literal

from services.transcoder.encode.gpu_fallback import SENTENCES, gpu_fault

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

    from services.transcoder.encode.gpu_fallback import Reason

CLOCK: Final = 90_000  # ticks a second in MPEG-TS
TOLERANCE_TICKS: Final = 3
MAX_REASON_CHARACTERS: Final = 300

ADVICE: Final[dict[Reason, str]] = {
    "no_encoder": "use Debian's ffmpeg, or one configured with --enable-nvenc",
    "no_driver": (
        "run this on a machine with an NVIDIA GPU and its driver; in a container let the NVIDIA runtime"
        " mount the driver with NVIDIA_DRIVER_CAPABILITIES=compute,video,utility"
    ),
    "old_driver": "install driver 470.57.02 or newer",
    "no_device": "check nvidia-smi and NVIDIA_VISIBLE_DEVICES; A100, A30, H100 and H200 have no encoder",
    "session_limit": "stop other encodes on this GPU and try again",
    "memory": "stop other programs on this GPU and try again",
    "gpu_error": (
        "try again with SANDBOX=off; if that works, the driver needs more than the sandbox permits, else "
        "check dmesg and nvidia-smi"
    ),
}
OTHER_ADVICE: Final = "check dmesg, nvidia-smi and docs/gpu.md"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one check; `why` is the observation or the error."""

    check: str
    verdict: Literal["ok", "failed"]
    why: str


def table(outcomes: Sequence[Outcome]) -> str:
    """Return a line for each check and a summary."""
    width = max(len(outcome.check) for outcome in outcomes)
    lines = [f"{item.verdict:<6}  {item.check:<{width}}  {_one_line(item.why)}" for item in outcomes]
    failed = sum(outcome.verdict == "failed" for outcome in outcomes)
    result = f"{failed} of {len(outcomes)} checks failed" if failed else f"all {len(outcomes)} checks are ok"
    return "\n".join([*lines, result])


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """Return 0 when every check is ok, else 1."""
    return int(any(outcome.verdict == "failed" for outcome in outcomes))


def _one_line(text: str) -> str:
    """Return `text` on one line, shortened to its end, where ffmpeg names the cause."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_REASON_CHARACTERS else "…" + line[-MAX_REASON_CHARACTERS:]


def missing(problem: str) -> str:
    """Return what this machine lacks for GPU encoding, with advice, from ffmpeg's message."""
    reason = gpu_fault(1, problem)
    said = SENTENCES[reason] if reason else "the trial encode failed"
    advice = ADVICE.get(reason, OTHER_ADVICE) if reason else OTHER_ADVICE
    return f"NVENC does not work here: {said}.\nffmpeg says: {_one_line(problem)}\nWhat to do: {advice}."


def join_problem(packets: Sequence[tuple[int, int]], frames: int, rate: Fraction) -> str | None:
    """Return the error in a joined rendition's packets, (shown, decoded) in ticks; None if correct."""
    if len(packets) != frames:
        return f"{len(packets)} frames instead of {frames}"
    shown = sorted(time for time, _ in packets)
    expected = [shown[0] + round(number / rate * CLOCK) for number in range(frames)]
    if any(abs(time - want) > TOLERANCE_TICKS for time, want in zip(shown, expected, strict=True)):
        return "a frame is shown at the wrong time"
    if any(before >= after for (_, before), (_, after) in pairwise(packets)):
        return "decode times do not rise"
    if any(decoded > time for time, decoded in packets):
        return "a frame is decoded after it is shown"
    return None
