"""Blocking work on the files of the local storage; raises OSError as it comes (local.py maps it)."""

from __future__ import annotations

import os
import re
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from uuid import uuid4

from shared.storage.interface import OpenUpload, StoredObject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TEMP = re.compile(
    r"\.([A-Za-z0-9_-][A-Za-z0-9._-]*)\.[0-9a-f]{32}"
)  # written by `place`, for the object of that name
RACES = 20  # how often a directory that another has just removed is made again


def place(target: Path, fill: Callable[[Path], None]) -> int:
    """Let `fill` write a hidden file and move it to `target` for good; return its size in bytes."""
    temp = target.with_name(f".{target.name}.{uuid4().hex}")
    for race in range(RACES):
        try:
            _make_directory(target.parent)
            fill(temp)
            size = temp.stat().st_size
            temp.replace(target)
            break
        except (
            FileNotFoundError,
            FileExistsError,
        ):  # someone removed the directory as an empty one, perhaps during mkdir
            if race == RACES - 1:
                raise
        finally:
            temp.unlink(missing_ok=True)  # it is still there when it was a link to the very same file
    _sync(target.parent)
    if target.stat().st_size != size:
        raise OSError(f"{target} has not the size of what was stored ({size} bytes)")
    return size


def _make_directory(directory: Path) -> None:
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for path in missing:
        _sync(path.parent)


def link(source: Path, temp: Path) -> None:
    """Make `temp` a hard link to `source`, or a copy where links are not possible."""
    try:
        os.link(source.resolve(), temp)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, temp)
    _sync(temp)


def write(body: bytes, temp: Path) -> None:
    """Write `body` to `temp`."""
    temp.write_bytes(body)
    _sync(temp)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stored(key: str, status: os.stat_result) -> StoredObject:
    """Describe a file as an object."""
    etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
    return StoredObject(key, status.st_size, etag, datetime.fromtimestamp(int(status.st_mtime), UTC))


def describe(path: Path, key: str) -> StoredObject | None:
    """Describe the object at `path`; None when there is none."""
    status = _status(path)
    return stored(key, status) if status else None


def _status(path: Path) -> os.stat_result | None:
    """Return the status of a file; None for anything else, and where there is nothing (any more)."""
    with suppress(FileNotFoundError, NotADirectoryError):
        status = path.stat()
        return status if stat.S_ISREG(status.st_mode) else None
    return None


def open_object(path: Path, key: str) -> BinaryIO:
    """Open the object at `path`. Raises KeyError when there is none."""
    if not path.is_file():
        raise KeyError(key)
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise KeyError(key) from None


def list_objects(top: Path, root: Path) -> list[StoredObject]:
    """List the objects below `top`, in the order of their keys."""
    found = [stored for page in walk(top, root) for stored in page.objects]
    return sorted(found, key=lambda stored: stored.key)


def list_uploads(top: Path, root: Path) -> list[OpenUpload]:
    """List the files below `top` that never became objects."""
    return [upload for page in walk(top, root) for upload in page.uploads]


@dataclass(frozen=True)
class Page:
    """What one directory holds."""

    objects: list[StoredObject]
    uploads: list[OpenUpload]


def walk(top: Path, root: Path) -> Iterator[Page]:
    """Go through all directories below `top`. Raises OSError for one that cannot be read: it is not empty."""
    for directory, _, names in os.walk(top, onerror=_expect_gone):
        page = Page([], [])
        for path in (Path(directory) / name for name in names):
            if status := _status(path):
                _sort_in(page, path, path.relative_to(root).as_posix(), status)
        yield page


def _expect_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _sort_in(page: Page, path: Path, key: str, status: os.stat_result) -> None:
    if not path.name.startswith("."):
        page.objects.append(stored(key, status))
    elif temp := TEMP.fullmatch(path.name):
        begun = datetime.fromtimestamp(status.st_ctime, UTC)  # a link's contents may be far older
        page.uploads.append(OpenUpload(str(Path(key).with_name(temp[1])), path.name, begun))


def checked_temp(name: str) -> str:
    """Return the name of a hidden file as it is. Raises ValueError for another file."""
    if not TEMP.fullmatch(name):
        raise ValueError(f"{name!r} is no upload")
    return name


def remove_file(path: Path, root: Path) -> None:
    """Remove a file, if it is there, then parents that are empty up to `root` (which stays)."""
    with suppress(FileNotFoundError, NotADirectoryError):
        path.unlink()
    _remove_empty_parents(path, root)


def remove_tree(top: Path, root: Path) -> int:
    """Remove `top`, then parents that are empty up to `root` (which stays); return how many objects went."""
    count = len(list_objects(top, root))
    for race in range(RACES):
        try:
            shutil.rmtree(top)
            break
        except FileNotFoundError:
            if not top.exists():
                break
        except OSError:  # something was put there meanwhile
            if race == RACES - 1:
                raise
    _remove_empty_parents(top, root)
    return count


def _remove_empty_parents(path: Path, root: Path) -> None:
    for parent in path.parents:
        if parent == root or not _remove_empty(parent):
            break


def _remove_empty(directory: Path) -> bool:
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def check_root(root: Path) -> None:
    """Raise OSError unless `root` is there, or can be made, and may be read (a streamer may only read)."""
    if not root.is_dir():
        root.mkdir(parents=True, exist_ok=True)
    if not os.access(root, os.R_OK | os.X_OK):
        raise PermissionError(f"{root} may not be read")
