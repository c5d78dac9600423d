"""The stored state of a stack: ports, secrets, given variables, running processes."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRETS = ("postgres", "rabbitmq", "cookie", "s3_access_key", "s3_secret_key")


@dataclass(frozen=True)
class Running:
    """A started process, identified so that a reused pid is not mistaken for it."""

    pid: int
    start_ticks: int
    fingerprint: str
    stage: int
    stop_signal: int
    grace_seconds: float
    litter: tuple[str, ...] = ()


@dataclass
class State:
    """The state of one stack directory."""

    ports: dict[str, int] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)
    running: dict[str, Running] = field(default_factory=dict)


@dataclass(frozen=True)
class StackDir:
    """The paths in a stack's directory."""

    root: Path

    @property
    def state(self) -> Path:
        return self.root / "state.json"

    @property
    def env(self) -> Path:
        return self.root / "env"

    @property
    def work(self) -> Path:
        return self.root / "work"

    def scratch(self, part: str) -> Path:
        return self.root / "scratch" / part

    def log(self, part: str) -> Path:
        return self.root / "logs" / f"{part}.log"

    def load(self) -> State:
        """Read the state; a new stack gets new secrets."""
        if not self.state.exists():
            return State(secrets={name: secrets.token_hex(12) for name in SECRETS})
        stored = json.loads(self.state.read_text())
        running = {
            name: Running(**{**each, "litter": tuple(each["litter"])})
            for name, each in stored.pop("running").items()
        }
        return State(**stored, running=running)

    def save(self, state: State) -> None:
        """Replace the state atomically."""
        write_atomically(self.state, json.dumps(asdict(state), indent=2) + "\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Exclude other commands on the same stack."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def write_atomically(path: Path, text: str, mode: int = 0o600) -> None:
    """Write `path` atomically, readable by the owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
    temporary.replace(path)
