"""Free ports for programs that tests start, and the end of such programs."""

from __future__ import annotations

import socket
import subprocess


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def stop(process: subprocess.Popen[bytes], seconds: float) -> None:
    """End a program with SIGTERM, or with SIGKILL after `seconds`."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
