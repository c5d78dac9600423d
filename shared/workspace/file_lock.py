"""File locks: a lock shows that a process is using a file, and ends with the process however it dies.

flock(2) works on local file systems and, between machines, on NFS version 4. Where it is not supported no
file is locked, and only age protects it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)


def hold(descriptor: int) -> None:
    """Lock an open file until its descriptor is closed; waits for processes that only test the lock."""
    _lock(descriptor, fcntl.LOCK_EX)


def share(descriptor: int) -> None:
    """Lock an open file together with others until its descriptor is closed; waits for who holds it alone."""
    _lock(descriptor, fcntl.LOCK_SH)


def try_hold(descriptor: int) -> bool:
    """Lock an open file as `hold` does; False when another process has locked it."""
    try:
        _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(path: Path) -> bool:
    """Tell whether a live process holds a file's lock, or may; False when the file does not exist."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)  # NFS requires a writable descriptor
    except (FileNotFoundError, IsADirectoryError):
        return False
    except PermissionError:  # it cannot be determined
        return True
    try:
        _lock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock(descriptor: int, operation: int) -> None:
    try:
        fcntl.flock(descriptor, operation)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
