"""Listing, measuring and removing files of the work volume; blocking."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from shared.names import read_uuid
from shared.workspace.interface import Measured

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID


def videos_in(directory: Path) -> list[UUID]:
    """Return the videos that have a directory in `directory`."""
    return [found for name in names_in(directory) if (found := read_uuid(name))]


def names_in(directory: Path) -> list[str]:
    """Return the names in a directory; empty if it does not exist."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return sorted(os.listdir(directory))  # noqa: PTH208 - names only, without stat
    return []


def listed(directory: Path, video_ids: Sequence[UUID]) -> dict[UUID, list[str]]:
    """Return the names in the directory of each video."""
    return {video_id: names_in(directory / str(video_id)) for video_id in video_ids}


def measure(path: Path) -> Measured | None:
    """Measure a file or a tree; None when it does not exist."""
    below = (Path(folder, name) for folder, folders, files in os.walk(path) for name in (*folders, *files))
    found = [status for each in (path, *below) if (status := _status(each))]
    if not found:
        return None
    return Measured(
        sum(status.st_size for status in found if not stat.S_ISDIR(status.st_mode)),
        max(max(status.st_mtime, status.st_ctime) for status in found),
    )


def _status(path: Path) -> os.stat_result | None:
    with suppress(FileNotFoundError):
        return path.lstat()
    return None


def remove(path: Path, entries: Sequence[str] | None) -> None:
    """Remove a file or tree; with `entries` only these, and then the directory if it is empty.

    Missing files are not an error.
    """
    for each in [path] if entries is None else [path / name for name in entries]:
        with suppress(FileNotFoundError):
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            else:
                each.unlink()
    if entries is not None:
        with suppress(OSError):
            path.rmdir()
