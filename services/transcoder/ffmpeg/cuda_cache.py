"""FFmpeg's GPU kernels, compiled for the card once; each run gets a private copy.

The driver takes 7 s to compile kernels, again for each scaler of a graph (H200). It caches the result in the
directory of CUDA_CACHE_PATH, which it uses only if writable. With a shared directory a compromised run could
change what the next one executes, so each run gets its own copy.
"""

from __future__ import annotations

import contextlib
import shutil
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


@contextlib.contextmanager
def lent_kernels(kept: str | None, argv: Sequence[str], access: Access) -> Iterator[dict[str, str]]:
    """Copy the cache `kept` to a writable directory, and yield the environment that points to it.

    Only runs that use the GPU get a copy; None: there is no cache.
    """
    if kept is None or not access.writes or not uses_gpu(argv):
        yield {}
        return
    folder = Path(access.writes[0], FOLDER_NAME)
    try:
        yield {VARIABLE: str(folder)} if _copied(kept, folder) else {}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copied(kept: str, folder: Path) -> bool:
    """Copy the cache; on failure the run is only slower."""
    try:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
    except OSError as error:
        log.warning("gpu_kernels_not_lent", error=str(error))
        return False
    return True
