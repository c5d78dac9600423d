"""Uploads files from the scratch to the work bucket, each once; waits while it is unavailable or full."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from shared.errors import StorageFull, StorageRefused, StorageUnavailable, WorkBucketUnavailable
from shared.workspace import names as named

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from shared.storage.interface import Storage

PUTS_AT_ONCE: Final = 8
MAX_PATIENCE_SECONDS: Final = 600.0  # encoding again takes longer
PAUSE_SECONDS: Final = 1.0
MAX_PAUSE_SECONDS: Final = 15.0

log = structlog.get_logger()


@dataclass
class HandOver:
    """Uploads files below `root` to keys below `prefix`.

    After a failure nothing should be encoded before `expect_writable` passes.
    """

    root: Path
    storage: Storage
    prefix: str
    patience_seconds: float = MAX_PATIENCE_SECONDS
    pause_seconds: float = PAUSE_SECONDS
    # Uploaded files, as they were: (time of change, size).
    _put: dict[str, tuple[int, int]] = field(default_factory=dict, compare=False, repr=False)
    _has_failed: bool = field(default=False, init=False, compare=False)

    async def put(self, names: Sequence[str]) -> None:
        """Upload files, except those uploaded before and unchanged.

        Raises FileNotFoundError, WorkBucketUnavailable.
        """
        places, give_up_at = asyncio.Semaphore(PUTS_AT_ONCE), time.monotonic() + self.patience_seconds
        try:
            async with asyncio.TaskGroup() as group:
                for name in names:
                    group.create_task(self._put_patiently(name, places, give_up_at))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def expect_writable(self) -> None:
        """Put a probe if the last file could not be put. Raises WorkBucketUnavailable."""
        if not self._has_failed:
            return
        key = f"{self.prefix}/{named.probe()}"
        with bucket_faults():
            await self.storage.put_bytes(key, b"")
            await self.storage.delete(key)
        self._has_failed = False

    def forget(self, name: str) -> None:
        """Forget a file, or all files in a directory, removed from the scratch."""
        for each in [each for each in self._put if each == name or each.startswith(f"{name}/")]:
            self._put.pop(each, None)

    async def _put_patiently(self, name: str, places: asyncio.Semaphore, give_up_at: float) -> None:
        path, pause = self.root / name, self.pause_seconds
        status = await asyncio.to_thread(path.stat)
        now = status.st_mtime_ns, status.st_size
        while self._put.get(name) != now:
            try:
                async with places:
                    await self.storage.put_file(f"{self.prefix}/{name}", path)
                self._put[name] = now
            except StorageUnavailable as error:
                if _is_final(error) or time.monotonic() + pause > give_up_at:
                    self._has_failed = True
                    raise unavailable(error) from error
                log.warning("hand_over_waits", name=name, error=error.message)
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_PAUSE_SECONDS)


def _is_final(error: StorageUnavailable) -> bool:
    """Tell whether waiting is of no use; a full bucket empties while uploaders store what it has."""
    return isinstance(error, StorageRefused) and not isinstance(error, StorageFull)


@contextmanager
def bucket_faults() -> Iterator[None]:
    """Raise WorkBucketUnavailable when a request in the block fails."""
    try:
        yield
    except StorageUnavailable as error:
        raise unavailable(error) from error


def unavailable(error: StorageUnavailable) -> WorkBucketUnavailable:
    """Return the workspace error for a storage error of the bucket."""
    return WorkBucketUnavailable(f"the work bucket cannot be used: {error.message}", type(error))
