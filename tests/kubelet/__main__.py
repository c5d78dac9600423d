"""Build what the tests of real nodes need, then run them: `python -m tests.kubelet [PYTEST_ARGS]`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from devstack.install import install_packages
from devstack.programs import REPOSITORY, MissingProgramError
from tests.cluster import programs
from tests.deploy.engine import EngineError, running_engine
from tests.deploy.requirements import reason_not_to_run
from tests.kubelet.images import build_archives
from tests.kubelet.network import CNI_PROGRAMS
from tests.kubelet.node import remove_groups

# Namespaces of its own: whatever pods leave behind, processes, mounts or bridges, ends with them.
INSIDE: Final = (
    *("unshare", "--net", "--mount", "--propagation=private", "--pid", "--fork", "--mount-proc"),
    *("--kill-child=TERM", sys.executable, "-m", "tests.deploy.network_namespace"),
)


def main(arguments: list[str]) -> int:
    """Build what is missing and run the tests; return the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if reason := _reason_not_to_run():
        print(f"skipped: {reason}")
        return 0
    began = time.monotonic()
    try:
        with running_engine(bridges=False) as engine:
            build_archives(engine)
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"built in {time.monotonic() - began:.0f} s", flush=True)
    state = Path(tempfile.mkdtemp(prefix="vod-kubelet-"))
    try:
        tested = subprocess.run(
            [*INSIDE, "-m", "kubelet", "-s", "tests/kubelet", *arguments],
            cwd=REPOSITORY,
            env=os.environ | {"KUBELET_STATE": str(state)},
            check=False,
        )
    finally:
        remove_groups()
        for node in state.glob("node-*"):
            shutil.rmtree(node)
    print(f"kubelet: {time.monotonic() - began:.0f} s in all; logs are in {state}")
    return tested.returncode


def _reason_not_to_run() -> str | None:
    """Build and install what is missing; return why the tests cannot run here."""
    if reason := reason_not_to_run():
        return reason
    try:
        install_packages(_missing)
    except MissingProgramError as error:
        return str(error)
    programs.main(["nodes"])
    needed = [each.name for each in (*programs.CONTROL_PLANE, *programs.CHECKS, *programs.NODES)]
    return programs.obstacle("etcd", *needed)


def _missing() -> list[str]:
    wanted = {"containernetworking-plugins": Path(CNI_PROGRAMS, "bridge").exists()}
    wanted |= {"containerd": shutil.which("containerd"), "conntrack": shutil.which("conntrack")}
    return [name for name, found in wanted.items() if not found]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
