"""Blocking file operations of the local storage; storage.py maps their OSError."""

from __future__ import annotations

import os
import re
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, BinaryIO, cast
from uuid import uuid4

from shared.storage.interface import OpenUpload, StoredObject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TEMP = re.compile(
    r"\.([A-Za-z0-9_-][A-Za-z0-9._-]*)\.[0-9a-f]{32}"
)  # written by `place` on the way to the object of that name
RACES = 20  # how often to recreate a directory that another process has just removed


def place(target: Path, fill: Callable[[Path], None]) -> int:
    """Have `fill` write a hidden file, sync it and rename it to `target`; return its size in bytes."""
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
        ):  # the directory was removed as empty, perhaps during mkdir
            if race == RACES - 1:
                raise
        finally:
            temp.unlink(missing_ok=True)  # renaming a link to the same file leaves it behind
    _sync(target.parent)
    if target.stat().st_size != size:
        raise OSError(f"{target} does not have the size that was stored ({size} bytes)")
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
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, temp)
    _sync(temp)


def write(body: bytes, temp: Path) -> None:
    """Write `body` to `temp`."""
    temp.write_bytes(body)
    _sync(temp)


def open_unnamed(root: Path) -> BinaryIO:
    """Return a new file without a name on the file system of `root`."""
    root.mkdir(parents=True, exist_ok=True)
    return cast("BinaryIO", TemporaryFile(dir=root))


def save(file: BinaryIO, temp: Path) -> None:
    """Write the content of an open file to `temp`."""
    file.seek(0)
    with temp.open("wb") as target:
        shutil.copyfileobj(file, target)
    _sync(temp)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stored(key: str, status: os.stat_result) -> StoredObject:
    """Return a file's metadata as an object, with the ETag that nginx gives it."""
    etag = f'"{int(status.st_mtime):x}-{status.st_size:x}"'
    return StoredObject(key, status.st_size, etag, datetime.fromtimestamp(int(status.st_mtime), UTC))


def describe(path: Path, key: str) -> StoredObject | None:
    """Return the metadata of the object at `path`; None when it does not exist."""
    status = _status(path)
    return stored(key, status) if status else None


def _status(path: Path) -> os.stat_result | None:
    """Return the status of a regular file; None for anything else, and when it does not exist."""
    with suppress(FileNotFoundError, NotADirectoryError):
        status = path.stat()
        return status if stat.S_ISREG(status.st_mode) else None
    return None


def open_object(path: Path, key: str) -> BinaryIO:
    """Open the object at `path`. Raises KeyError when it does not exist."""
    if not path.is_file():
        raise KeyError(key)
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise KeyError(key) from None


def list_objects(top: Path, root: Path) -> list[StoredObject]:
    """List the objects below `top` in key order."""
    found = [stored for page in walk(top, root) for stored in page.objects]
    return sorted(found, key=lambda stored: stored.key)


def list_uploads(top: Path, root: Path) -> list[OpenUpload]:
    """List the files below `top` that never became objects."""
    return [upload for page in walk(top, root) for upload in page.uploads]


@dataclass(frozen=True)
class Page:
    """The content of one directory."""

    objects: list[StoredObject]
    uploads: list[OpenUpload]


def walk(top: Path, root: Path) -> Iterator[Page]:
    """Walk all directories below `top`. Raises OSError for an unreadable one: it may not be empty."""
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
        begun = datetime.fromtimestamp(status.st_ctime, UTC)  # a hard link keeps the old mtime
        page.uploads.append(OpenUpload(str(Path(key).with_name(temp[1])), path.name, begun))


def checked_temp(name: str) -> str:
    """Return the name of a hidden file unchanged. Raises ValueError for any other name."""
    if not TEMP.fullmatch(name):
        raise ValueError(f"{name!r} is not an upload")
    return name


def remove_file(path: Path, root: Path) -> None:
    """Remove a file if it exists, then empty parents up to `root` (which stays)."""
    with suppress(FileNotFoundError, NotADirectoryError):
        path.unlink()
    _remove_empty_parents(path, root)


def remove_tree(top: Path, root: Path) -> int:
    """Remove a directory, then empty parents up to `root` (which stays); return the number of its objects.

    A file is left alone.
    """
    if top.is_file():
        return 0
    count = len(list_objects(top, root))
    for race in range(RACES):
        try:
            shutil.rmtree(top)
            break
        except FileNotFoundError:
            if not top.exists():
                break
        except OSError:  # an object was added meanwhile
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
    """Raise OSError unless `root` exists or can be created, and is readable (a streamer may only read)."""
    if not root.is_dir():
        root.mkdir(parents=True, exist_ok=True)
    if not os.access(root, os.R_OK | os.X_OK):
        raise PermissionError(f"{root} is not readable")
