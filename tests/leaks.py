"""Looks for secrets in the logs that a test run leaves."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

API_KEY = re.compile(rb"vod_[A-Za-z0-9_-]{43}")
JWT = re.compile(rb"eyJ[A-Za-z0-9_-]{16,}\.eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]+")
GRANT = re.compile(
    rb"(?<![0-9])[0-9]{9,12}-[A-Za-z0-9_]{1,64}-[A-Za-z0-9_-]{22}(?![A-Za-z0-9_-])"
)  # in a URL of a segment
SIGNATURE = re.compile(rb"(?i)x-amz-signature=[0-9a-f]{64}")  # of a URL that lets anyone read
SHAPES = {"an API key": API_KEY, "a token": JWT, "a grant": GRANT, "a signed URL": SIGNATURE}
NOT_SECRET = ("s3_access_key",)


def secrets_of(directory: Path) -> dict[str, str]:
    """Return every secret of a stack by its name: those it made, and those it was given."""
    state = json.loads((directory / "state.json").read_text())
    found = {name: value for name, value in state["secrets"].items() if name not in NOT_SECRET}
    env = dict(line.split("=", 1) for line in shlex.split((directory / "env").read_text()))
    for name, value in env.items():
        if "://" in value and urlsplit(value).password:
            found[name] = urlsplit(value).password or ""
        elif name.endswith(("_KEY", "_TOKEN")):
            found[name] = value
    return {name: value for name, value in found.items() if len(value) >= 8}


def leaks_in(directory: Path) -> list[str]:
    """Return which log of a stack holds which secret, or what looks like one."""
    if not (directory / "env").exists():
        return []
    secrets = secrets_of(directory)
    return [leak for log in _logs(directory) for leak in _leaks_of(log, secrets)]


def leaks_below(root: Path) -> list[str]:
    """Return which log below a directory holds a secret of any stack that was started below it.

    Each stack's own logs may not hold anything that looks like a secret either.
    """
    stacks = [state.parent for state in sorted(root.rglob("state.json")) if _was_started(state)]
    secrets = {
        f"{name} of {stack.name}": value for stack in stacks for name, value in secrets_of(stack).items()
    }
    known = [
        f"{log.relative_to(root)}: {name}" for log in _logs(root) for name in _held(log.read_bytes(), secrets)
    ]
    return known + [leak for stack in stacks for leak in leaks_in(stack)]


def _logs(root: Path) -> list[Path]:
    """Return the logs below a directory, without those of LevelDB (000001.log), SeaweedFS' store of keys."""
    return sorted(path for path in root.rglob("*.log") if not path.stem.isdigit())


def _was_started(state: Path) -> bool:
    return (state.parent / "env").exists() and "ports" in json.loads(state.read_text())


def _held(content: bytes, secrets: dict[str, str]) -> list[str]:
    return [name for name, value in secrets.items() if value.encode() in content]


def _leaks_of(log: Path, secrets: dict[str, str]) -> Iterator[str]:
    content = log.read_bytes()
    yield from (f"{log.name}: {name}" for name in _held(content, secrets))
    yield from (f"{log.name}: {name}" for name, shape in SHAPES.items() if shape.search(content))
