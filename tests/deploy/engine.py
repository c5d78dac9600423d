"""A Docker daemon of our own: no socket, directory, bridge or firewall rule of the machine's is touched."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 60.0
# Without bridge and rules the daemon changes nothing in the network it runs in.
NO_NETWORK: Final = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false")


class EngineError(Exception):
    """A Docker command failed; the message has its output."""


def cache() -> Path:
    """Return the directory that keeps bases, images and layers from one run to the next."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(home, "vod-pipeline")
    path.mkdir(parents=True, exist_ok=True)
    return path


class Engine:
    """A running daemon: `docker` runs a command against it."""

    def __init__(self, socket: Path, environ: dict[str, str]) -> None:
        self.socket = socket
        self.environ = os.environ | environ | {"DOCKER_HOST": f"unix://{socket}"}

    def docker(
        self,
        *arguments: str,
        seconds: float = 120,
        stdin: Path | None = None,
        folder: Path | None = None,
        **given: str,
    ) -> str:
        """Run a command, in a folder if one is given, and return its output. Raises EngineError."""
        with (stdin or Path(os.devnull)).open("rb") as source:
            done = subprocess.run(
                ["docker", *arguments],
                env=self.environ | given,
                stdin=source,
                cwd=folder,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
            )
        if done.returncode:
            said = (done.stdout + done.stderr)[-4000:]
            raise EngineError(f"docker {' '.join(arguments)} ended with {done.returncode}:\n{said}")
        return done.stdout

    def has_image(self, name: str) -> bool:
        """Tell whether an image of this name exists."""
        return bool(self.docker("images", "--quiet", name).strip())


@contextmanager
def running_engine(*, bridges: bool, environ: dict[str, str] | None = None) -> Iterator[Engine]:
    """Start the daemon in the network namespace of this process; everything it started ends with the block.

    With `bridges` it may make networks and rules: only in a namespace of our own.
    """
    kept = cache() / "docker"
    kept.mkdir(exist_ok=True)
    with (kept / "lock").open("w") as lock, tempfile.TemporaryDirectory(prefix="vod-docker-") as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)
        socket, log = Path(folder, "docker.sock"), Path(folder, "log")
        argv = [
            *("dockerd", "--data-root", str(kept / "data"), "--exec-root", str(Path(folder, "exec"))),
            *("--pidfile", str(Path(folder, "pid")), "--host", f"unix://{socket}"),
            *("--config-file", str(_no_settings(folder)), "--shutdown-timeout", "20"),
            *(() if bridges else NO_NETWORK),
        ]
        with log.open("wb") as output:
            # Mounts of containers stay in a namespace that ends with the daemon, and the daemon ends with us.
            daemon = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "unshare", "--mount", "--propagation", "private", *argv],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            _wait_until_up(daemon, socket, log)
            engine = Engine(socket, environ or {})
            _remove_containers(engine)  # those of a run that was killed would start again
            yield engine
            _remove_containers(engine)
        finally:
            _stop(daemon)
            shutil.rmtree(Path(folder, "exec"), ignore_errors=True)


def _no_settings(folder: str) -> Path:
    """Return an empty settings file, because the machine's own is for another daemon."""
    path = Path(folder, "daemon.json")
    path.write_text("{}")
    return path


def _wait_until_up(daemon: subprocess.Popen[bytes], socket: Path, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        asked = subprocess.run(
            ["docker", "--host", f"unix://{socket}", "version"], capture_output=True, check=False, timeout=30
        )
        if asked.returncode == 0:
            return
        if daemon.poll() is not None or time.monotonic() > deadline:
            raise EngineError(f"dockerd did not start:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.2)


def _remove_containers(engine: Engine) -> None:
    if names := engine.docker("ps", "--all", "--quiet").split():
        engine.docker("rm", "--force", "--volumes", *names)
    if volumes := engine.docker("volume", "ls", "--quiet").split():
        engine.docker("volume", "rm", *volumes)
    engine.docker("network", "prune", "--force")


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    """Stop the daemon and, if it does not exit, its whole process group."""
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()
