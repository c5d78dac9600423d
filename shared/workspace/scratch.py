"""The scratch of one process, with a work bucket: remains of an earlier process are removed."""

from __future__ import annotations

import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from shared.workspace import names
from shared.workspace.file_lock import share, try_hold

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK: Final = ".scratch-lock"
PLACES: Final = (names.CHUNKS, names.ORIGINALS, names.UPLOADS)


@contextmanager
def clean_scratch(root: Path) -> Iterator[None]:
    """Hold a shared lock on the scratch while the block runs.

    Empty it first unless a live process holds the lock. Files that were handed over are in the bucket; the
    rest belongs to attempts that ended with their process.
    """
    with (root / LOCK).open("a") as file:
        if try_hold(file.fileno()):
            for place in PLACES:
                _empty(root / place)
        share(file.fileno())
        yield


def _empty(directory: Path) -> None:
    with suppress(FileNotFoundError):
        for path in directory.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def remove_local(path: Path) -> None:
    """Remove a file or directory if it exists, and its parent if that leaves it empty."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        path.parent.rmdir()
