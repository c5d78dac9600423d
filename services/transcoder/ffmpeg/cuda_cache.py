"""What FFmpeg's filters run on the GPU, translated for its card once and lent to each run as a copy.

The driver translates it first: for 7 s, and again for each scaler of a graph (H200). It keeps the result in
the folder that CUDA_CACHE_PATH names, and looks there only if it may write there too. A folder for all would
let what breaks into one run change what the next one executes: each gets a copy, until it ends.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from services.transcoder.ffmpeg.sandbox import uses_gpu

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from services.transcoder.ffmpeg.sandbox import Access

VARIABLE: Final = "CUDA_CACHE_PATH"
FOLDER_NAME: Final = "gpu-kernels"

log = structlog.get_logger()


@dataclass(slots=True)
class _Kept:
    folder: str | None = None


_kept = _Kept()


def keep_kernels(folder: str | None) -> None:
    """Lend copies of `folder` to every later run of this process that uses the GPU; None lends nothing."""
    _kept.folder = folder


@contextlib.contextmanager
def lent_kernels(argv: Sequence[str], access: Access) -> Iterator[dict[str, str]]:
    """Put a copy of what is kept where a run may write, and yield the environment that says so."""
    if _kept.folder is None or not access.writes or not uses_gpu(argv):
        yield {}
        return
    folder = Path(access.writes[0], FOLDER_NAME)
    try:
        yield {VARIABLE: str(folder)} if _copied(_kept.folder, folder) else {}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copied(kept: str, folder: Path) -> bool:
    """Copy what is kept; without it a run is slower, but as good."""
    try:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
    except OSError as error:
        log.warning("gpu_kernels_not_lent", error=str(error))
        return False
    return True
