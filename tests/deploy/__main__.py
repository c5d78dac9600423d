"""Run the tests of containers, or only build: `python -m tests.deploy image|compose|build [FILE]`.

`build FILE` writes the image to an archive for `docker load` or `ctr images import`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from devstack.programs import REPOSITORY
from tests.deploy.build import NAME, build_all
from tests.deploy.compose_plugin import docker_config
from tests.deploy.engine import EngineError, running_engine
from tests.deploy.requirements import reason_not_to_run
from tests.deploy.servers import build_servers

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.deploy.engine import Engine

# A private network namespace, where the tests' daemon may create bridges and rules.
INSIDE = ("unshare", "--net", "--kill-child=TERM", sys.executable, "-m", "tests.deploy.network_namespace")


def main(arguments: list[str]) -> int:
    """Build what is requested, then run its tests; return the exit status."""
    what, rest = arguments[0], arguments[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything started is stopped
    if reason := reason_not_to_run():
        print(f"skipped: {reason}")
        return 0
    began = time.monotonic()
    try:
        with running_engine(bridges=False) as engine:
            BUILDS[what](engine, rest)
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"built in {time.monotonic() - began:.0f} s")
    if what == "build":
        return 0
    tests = map(str, sorted((REPOSITORY / "tests" / "deploy").glob(f"test_{what}*.py")))
    tested = subprocess.run(
        [*INSIDE, "-m", "containers", "-s", *tests, *rest], cwd=REPOSITORY, env=os.environ, check=False
    )
    print(f"{what}: {time.monotonic() - began:.0f} s in all")
    return tested.returncode


def _build_image(engine: Engine, _: list[str]) -> None:
    built = build_all(engine)
    print(f"{NAME}: {built.size_bytes / 1e6:.0f} MB, built in {built.seconds:.0f} s")


def _build_archive(engine: Engine, rest: list[str]) -> None:
    _build_image(engine, rest)
    for path in rest[:1]:
        engine.docker("save", "--output", path, NAME, seconds=300)


def _build_all(engine: Engine, rest: list[str]) -> None:
    docker_config()  # fetched now: the tests reach no registry
    _build_image(engine, rest)
    build_servers(engine)


BUILDS: dict[str, Callable[[Engine, list[str]], None]] = {
    "image": _build_image,
    "compose": _build_all,
    "build": _build_archive,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
