"""Files that a living process holds: a lock tells that it is at work, and ends with it however it dies.

flock(2) is honoured on local file systems and, between machines, by NFS version 4. Where it is not supported
nothing is held, and age alone tells.
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
    """Hold an open file until its descriptor is closed; who only looks at it is waited for."""
    _lock(descriptor, fcntl.LOCK_EX)


def is_held(path: Path) -> bool:
    """Tell whether a living process holds a file, or one may; one that is gone is held by nobody."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)  # NFS wants a descriptor that may write
    except (FileNotFoundError, IsADirectoryError):
        return False
    except PermissionError:  # not ours to judge
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
