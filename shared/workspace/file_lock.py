"""File locks: a lock shows that a process is using a file, and ends with the process in any case.

flock(2) works on local file systems and, between machines, on NFS version 4. Without support files are not
locked, and only their age protects them.
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
    """Lock an open file, shared, until its descriptor is closed; waits for an exclusive lock."""
    _lock(descriptor, fcntl.LOCK_SH)


def try_hold(descriptor: int) -> bool:
    """Lock an open file as `hold` does; False when another process has locked it."""
    try:
        _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(path: Path) -> bool:
    """Tell whether a live process holds, or may hold, a file's lock; False if the file does not exist."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)  # NFS requires a writable descriptor
    except (FileNotFoundError, IsADirectoryError):
        return False
    except PermissionError:  # unknown
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
