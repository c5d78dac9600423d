"""Run pytest in a new network namespace, in which loopback is brought up (`unshare --net`)."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: fixtures stop what they started
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    sys.exit(pytest.main(sys.argv[1:]))
