"""Someone who has just cloned the repository and types what its pages say, word for word.

A hidden comment, `<!-- commands: NAME -->`, marks a block of commands in a page.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

REPOSITORY: Final = Path(__file__).parents[1]
GIT_SECONDS: Final = 60
SETS_VARIABLES: Final = re.compile(r'(\.|export) .*|\w+=("[^"]*"|\S*)')
CURLRC: Final = 'silent\nshow-error\nmax-time = 120\nwrite-out = "\\n%{http_code}"\n'


def block(page: str, name: str) -> str:
    """Return the indented or fenced block below the comment that names it."""
    mark = rf"<!-- commands: {name} -->\n"
    text = (REPOSITORY / page).read_text()
    if fenced := re.search(mark + r"```\w*\n(.*?\n)```", text, re.DOTALL):
        return fenced[1]
    indented = re.search(mark + r"((?:    .*\n)+)", text)
    assert indented, f"{page} has no commands for {name}"
    return re.sub(r"^    ", "", indented[1], flags=re.MULTILINE)


def commands(page: str, name: str) -> list[str]:
    """Return the command lines of a block, without comments."""
    lines = [re.split(r"(?:^|\s)# ", line)[0].strip() for line in block(page, name).splitlines()]
    return [line for line in lines if line]


def row(page: str, purpose: str) -> list[str]:
    """Return what is set as code in the row of a page's table that begins with `purpose`."""
    found = re.search(rf"^\| {re.escape(purpose)} \| (.*) \|$", (REPOSITORY / page).read_text(), re.MULTILINE)
    assert found, f"{page} has no row for: {purpose}"
    return re.findall(r"`([^`]+)`", found[1])


def clone(folder: Path) -> Path:
    """Return a clone of this checkout as it is now, uncommitted files included; its origin is in `folder`."""
    origin, checkout = folder / "origin", folder / "checkout"
    index = {"GIT_INDEX_FILE": str(folder / "index")}
    git(REPOSITORY, "add", "--all", **index)
    now = git(REPOSITORY, "commit-tree", git(REPOSITORY, "write-tree", **index), "-m", "As it is now")
    git(folder, "init", "--quiet", "--bare", "--initial-branch", "main", str(origin))
    git(REPOSITORY, "push", "--quiet", str(origin), f"{now}:refs/heads/main")
    git(folder, "clone", "--quiet", str(origin), str(checkout))
    return checkout


def publish(checkout: Path, file: str, text: str) -> None:
    """Commit a longer version of a file to the origin of a clone, which does not have it yet."""
    with (checkout / file).open("a") as opened:
        opened.write(text)
    git(checkout, "commit", "--quiet", "--all", "--message", "Change a file")
    git(checkout, "push", "--quiet")
    git(checkout, "reset", "--quiet", "--hard", "HEAD~1")
    git(checkout, "update-ref", "refs/remotes/origin/main", "HEAD")


def git(directory: Path, *arguments: str, **given: str) -> str:
    """Run git in a directory; return what it printed."""
    identity = ("-c", "user.name=newcomer", "-c", "user.email=newcomer@example.org")
    run = ["git", "-C", str(directory), *identity, *arguments]
    done = subprocess.run(
        run, env=os.environ | given, capture_output=True, text=True, timeout=GIT_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@dataclass(frozen=True)
class Answer:
    """What curl got."""

    status: int
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Newcomer:
    """A shell in the clone. `placeholders` are what has to be filled in, and by what."""

    checkout: Path
    environ: Mapping[str, str]
    placeholders: dict[str, str] = field(default_factory=dict)
    variables: list[str] = field(default_factory=list)

    def type(self, command: str, seconds: float = 240) -> str:
        """Run a command or a block; return what it printed. Variables that a command sets stay set."""
        for placeholder, value in self.placeholders.items():
            command = command.replace(placeholder, value)
        assert "…" not in command, f"not filled in: {command}"
        script = "\n".join([*self.variables, command])
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.checkout,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout[-3000:] + done.stderr[-3000:])
        if SETS_VARIABLES.fullmatch(command):
            self.variables.append(command)
        return done.stdout

    def curl(self, command: str) -> Answer:
        """Run a curl command, whose status curl's own settings file makes it print."""
        body, _, status = self.type(command).rstrip("\n").rpartition("\n")
        return Answer(int(status), body)


def with_curlrc(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return an environment in which curl prints the status of each answer, and ends after two minutes."""
    (folder / ".curlrc").write_text(CURLRC)
    return {**environ, "CURL_HOME": str(folder)}
