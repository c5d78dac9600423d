"""Put a folder of files like the uploader, in a separate process to measure its CPU time."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from services.uploader.main import PUTS_AT_ONCE
from shared.settings import Settings
from shared.storage.open_storage import open_s3


async def put_all(folder: Path, prefix: str) -> float:
    """Put every file of a folder below a prefix; return the seconds it took, without the start of Python."""
    slots = asyncio.Semaphore(PUTS_AT_ONCE)
    async with open_s3(Settings()) as storage:

        async def put(path: Path) -> None:
            async with slots:
                await storage.put_file(f"{prefix}/{path.name}", path)

        await storage.check()  # connects
        started = time.perf_counter()
        await asyncio.gather(*(put(path) for path in sorted(folder.iterdir())))
        return time.perf_counter() - started


if __name__ == "__main__":
    print(asyncio.run(put_all(Path(sys.argv[1]), sys.argv[2])))
