"""How good and how large the renditions are."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from tests.bench.commands import RATE, compare, packet_sizes
from tests.bench.measure import CommandFailed, run_quietly
from tests.bench.results import Quality

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from services.transcoder.plan.ladder import Rung

COMPARED_SECONDS: Final = 20.0
IDENTICAL_DB: Final = 100.0  # stands for infinity, which JSON cannot represent
TIMEOUT_SECONDS: Final = 600.0
PSNR: Final = re.compile(r"PSNR .*average:(inf|[0-9.]+)")
SSIM: Final = re.compile(r"SSIM .*All:([0-9.]+)")


def read_scores(output: str) -> tuple[float, float]:
    """Return PSNR (dB) and SSIM from what ffmpeg printed; raises ValueError when they are missing."""
    psnr, ssim = PSNR.search(output), SSIM.search(output)
    if not psnr or not ssim:
        raise ValueError(f"no scores in {output[-500:]!r}")
    found = float(psnr[1])
    return (IDENTICAL_DB if math.isinf(found) else found), float(ssim[1])


def read_sizes(output: str) -> list[int]:
    """Return the packet sizes that ffprobe printed, in bytes."""
    words = (line.strip().rstrip(",") for line in output.splitlines())
    return [int(word) for word in words if word.isdecimal()]


def rate_of(ladder: tuple[Rung, ...], outputs: Mapping[str, Path], source: Path) -> tuple[Quality, ...]:
    """Decode every rendition beside the source; raises CommandFailed when one cannot be decoded."""
    return tuple(_quality(rung, outputs[rung.name], source) for rung in ladder)


def _quality(rung: Rung, encoded: Path, source: Path) -> Quality:
    if not encoded.exists():
        raise CommandFailed(f"there is no {rung.name}: {encoded} is missing")
    sizes = read_sizes(run_quietly(packet_sizes(encoded), TIMEOUT_SECONDS))
    output = run_quietly(compare(source, encoded, rung, COMPARED_SECONDS), TIMEOUT_SECONDS)
    try:
        psnr_db, ssim = read_scores(output)
    except ValueError as error:
        raise CommandFailed(f"{rung.name} could not be compared: {error}") from error
    seconds = len(sizes) / RATE or 1.0
    return Quality(rung.name, len(sizes), round(sum(sizes) * 8 / seconds), psnr_db, ssim)
