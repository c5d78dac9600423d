"""Run pytest in a new network namespace, in which loopback is brought up (`unshare --net`)."""

from __future__ import annotations

import subprocess
import sys

import pytest

if __name__ == "__main__":
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    sys.exit(pytest.main(sys.argv[1:]))
