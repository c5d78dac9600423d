"""libx264's options by profile: those with the best measured quality for the CPU time.

Against the preset veryfast, in bits for the same VMAF (docs/benchmarks.md): adaptive quantization by variance
(aq-mode 2) with a look-ahead of 20 frames saves 6 % and no time; trellis quantization another 7 % for 9 %
more time; estimating motion to the half sample only (subme 1) loses 8 % again and saves a quarter of the
time. Slower presets gain less for the same time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Profile = Literal["speed", "balanced", "quality"]

X264: Final = ("-c:v", "libx264", "-preset", "veryfast", "-profile:v", "high", "-sc_threshold", "0")
FINE: Final = ("aq-mode=2", "rc-lookahead=20", "trellis=1")
FAST: Final = (*FINE, "subme=1")
LARGE_ROWS: Final = 720
ROWS_A_THREAD: Final = 240


def parameters(profile: Profile | None, rows: int) -> Sequence[str]:
    """Return x264's own parameters for pictures of `rows` lines; none if `profile` is None."""
    if profile is None:
        return ()
    if profile == "quality":
        return FINE
    return FAST if profile == "speed" or rows >= LARGE_ROWS else FINE


def threads(rows: int) -> int:
    """Return the number of threads for pictures of `rows` lines; fixed, so that all machines agree.

    Each thread can reference less of the previous picture: too many on a small one cost up to 1.4 VMAF and
    17 % CPU time.
    """
    return max(1, (rows + ROWS_A_THREAD // 2) // ROWS_A_THREAD)
