"""How many chunks a transcoder encodes at once (TRANSCODER_CONCURRENCY=auto)."""

from __future__ import annotations

import os
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from services.transcoder.command.video import EncoderName

# Cores used by a chunk of the usual ladder: x264 runs one thread per 240 lines, a dozen in all, which wait
# for the decoder, the scalers and each other. A 1080p chunk takes 0.6 GB; larger sources take more.
CORES_A_CHUNK: Final = 6
MEMORY_A_CHUNK_BYTES: Final = 1024**3
# On a GPU one chunk is decoded and scaled while another is encoded; consumer cards allow only a few sessions.
CHUNKS_ON_GPU: Final = 2
MAX_CHUNKS: Final = 64
CGROUP: Final = Path("/sys/fs/cgroup")


def chunks_at_once(
    wanted: int | None, encoder: EncoderName, *, cores: int | None = None, memory_bytes: int | None = None
) -> int:
    """Return `wanted`, or if None as many chunks as use the machine's cores and memory fully."""
    if wanted is not None:
        return wanted
    by_memory = (memory_bytes or usable_memory_bytes()) // MEMORY_A_CHUNK_BYTES
    by_cores = round((cores or usable_cores()) / CORES_A_CHUNK)
    most = CHUNKS_ON_GPU if encoder == "h264_nvenc" else MAX_CHUNKS
    return max(1, min(by_cores, by_memory, most))


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Return how many cores this process may use, by affinity and by the quota of its cgroup (v2)."""
    allowed = len(os.sched_getaffinity(0))
    quota, _, period = _read(cgroup / "cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        return max(1, min(allowed, ceil(int(quota) / int(period))))
    return allowed


def usable_memory_bytes(cgroup: Path = CGROUP) -> int:
    """Return how much memory this process may use: the machine's, or its cgroup's limit (v2) if lower."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _read(cgroup / "memory.max")
    return min(installed, int(limit)) if limit.isdigit() else installed


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # no cgroup of version 2 here
        return ""
