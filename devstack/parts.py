"""The parts of the stack as data: what to start, how, and where it answers when ready."""

from __future__ import annotations

import hashlib
import signal
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from devstack.environment import service_values, transcoder_count
from devstack.programs import REPOSITORY, as_user

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from devstack.programs import Programs
    from devstack.state import StackDir, State

FIRST, SERVERS, SERVICES = range(3)  # stages: started in this order, stopped in reverse
DRAIN_SECONDS = 30.0
FIRST_UID = 61300  # of services that share no disk; they need no entry in passwd(5)


@dataclass(frozen=True)
class File:
    """A file written before each start."""

    path: Path
    text: str
    mode: int = 0o600


@dataclass(frozen=True)
class Creation:
    """A command that creates `draft`, which is then renamed to `result`; run if `result` does not exist."""

    argv: tuple[str, ...]
    draft: Path
    result: Path


@dataclass(frozen=True)
class Scratch:
    """A directory of one process; `uid` alone may enter it."""

    path: Path
    uid: int | None


@dataclass(frozen=True)
class Part:
    """One process of the stack.

    `answers` is the URL of its readiness check; `pid_file` in the data directory prevents a second server
    while the process it names exists.
    """

    name: str
    stage: int
    argv: tuple[str, ...]
    cwd: Path
    answers: str
    env: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[str, ...] = ()
    files: tuple[File, ...] = ()
    creation: Creation | None = None
    pid_file: Path | None = None
    owner: int | None = None
    scratch: Scratch | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    grace_seconds: float = 10.0
    litter: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Identify the definition: a part running with another one must be restarted."""
        told = (self.argv, sorted(self.env.items()), self.files)
        return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def service_names(transcoders: int) -> list[str]:
    """Return the part names of the services."""
    return ["ingest", *(f"transcoder-{n}" for n in range(1, transcoders + 1)), "uploader", "streamer"]


def service_parts(directory: StackDir, state: State, programs: Programs) -> list[Part]:
    """Define the services, with TRANSCODERS transcoders."""
    values = service_values(directory, state)
    names = service_names(transcoder_count(state))
    services = [_service(name, state.ports[name], values, programs.python) for name in names]
    if values.get("WORK") != "bucket":
        return services
    first_uid = FIRST_UID if programs.separates_users else None
    return [
        _apart(part, directory.scratch(part.name), first_uid + number if first_uid else None)
        for number, part in enumerate(services)
    ]


def _apart(part: Part, scratch: Path, uid: int | None) -> Part:
    """Return a service with a directory and, where `uid` is given, a system user of its own."""
    return replace(
        part,
        argv=(*(as_user(uid) if uid else ()), *part.argv),
        env={**part.env, "WORK_DIR": str(scratch), "HOME": str(scratch)},
        scratch=Scratch(scratch, uid),
    )


def _service(name: str, port: int, values: Mapping[str, str], python: Path) -> Part:
    return Part(
        name=name,
        stage=SERVICES,
        argv=(str(python), "-m", f"services.{name.partition('-')[0]}"),
        cwd=REPOSITORY,
        env={**values, "HTTP_PORT": str(port)},
        answers=f"http://127.0.0.1:{port}/readyz",
        ports=(name,),
        grace_seconds=DRAIN_SECONDS,
    )
