"""The project of compose.yaml in a newcomer's clone, and the commands of docs/containers.md."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.deploy.build import NAME
from tests.deploy.compose_plugin import docker_config
from tests.deploy.video_lifecycle import Addresses
from tests.newcomer import Newcomer, clone, commands, row, with_curlrc

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.deploy.engine import Engine

PAGE: Final = "docs/containers.md"
UP_SECONDS: Final = 300.0
API_KEY: Final = re.compile(r"vod_[A-Za-z0-9_-]{43}")


def settings(purpose: str) -> dict[str, str]:
    """Return the settings in a row of the page's table."""
    return dict(code.split("=", 1) for code in row(PAGE, purpose) if re.match(r"[A-Z_0-9]+=", code))


@dataclass(frozen=True)
class Project:
    """The containers that a newcomer starts."""

    engine: Engine
    newcomer: Newcomer
    entrance: str

    def __call__(self, *arguments: str, seconds: float = UP_SECONDS, **given: str) -> str:
        return self.engine.docker(
            "compose", *arguments, seconds=seconds, folder=self.newcomer.checkout, **given
        )

    def start(self) -> None:
        """Type the commands that start everything; the key and the addresses hold from then on."""
        up, logs, export = commands(PAGE, "start")
        began = time.monotonic()
        self.newcomer.type(up, UP_SECONDS)
        print(f"{up}: {time.monotonic() - began:.0f} s")
        (key,) = API_KEY.findall(self.newcomer.type(logs))
        self.newcomer.placeholders |= {"vod_…": key, "http://localhost:8080": self.entrance}
        self.newcomer.type(export)

    def up(self) -> None:
        """Type the first command again, as after a change of settings."""
        self.newcomer.type(commands(PAGE, "start")[0], UP_SECONDS)

    def change(self, file: str, settings: Mapping[str, str]) -> None:
        """Add lines to `.env` or `vod.env`."""
        with (self.newcomer.checkout / file).open("a") as opened:
            opened.writelines(f"{name}={value}\n" for name, value in settings.items())

    def follow(self, purpose: str, number: int = 0, seconds: float = UP_SECONDS) -> str:
        """Type the command of a row of the page's table."""
        code = [each for each in row(PAGE, purpose) if "docker compose" in each]
        return self.newcomer.type(code[number], seconds)

    def containers(self, service: str) -> list[dict[str, Any]]:
        """Return Docker's descriptions of a service's containers."""
        names = self("ps", "--all", "--quiet", service).split()
        return json.loads(self.engine.docker("inspect", *names)) if names else []

    def container(self, service: str) -> dict[str, Any]:
        """Return Docker's description of a service's only container."""
        (found,) = self.containers(service)
        return found

    def mounts(self, service: str) -> dict[str, str]:
        """Return the volumes of a service's container by their place in it."""
        found = self.container(service)["Mounts"]
        return {mount["Destination"]: mount["Name"] for mount in found if mount["Type"] == "volume"}

    def kill(self, service: str) -> None:
        """End a service's process as the kernel does when memory is short."""
        os.kill(self.container(service)["State"]["Pid"], signal.SIGKILL)

    @property
    def addresses(self) -> Addresses:
        return Addresses(self.entrance, self.newcomer.placeholders["vod_…"])

    def remains(self) -> list[str]:
        """Return the names of the containers and volumes that the engine still has."""
        listed = (("ps", "--all", "--format", "{{.Names}}"), ("volume", "ls", "--quiet"))
        return [name for command in listed for name in self.engine.docker(*command).split()]


@contextmanager
def project_of(
    engine: Engine,
    folder: Path,
    *,
    entrance: str,
    env: Mapping[str, str],
    vod_env: Mapping[str, str] | None = None,
) -> Iterator[Project]:
    """Start the project in a new clone with these settings; everything of it is removed afterwards."""
    engine.environ |= {"DOCKER_CONFIG": str(docker_config())}
    newcomer = Newcomer(clone(folder), with_curlrc(engine.environ, folder))
    project = Project(engine, newcomer, entrance)
    project.change(".env", env)
    project.change("vod.env", vod_env or {})
    try:
        project.start()
        yield project
    except BaseException:
        print(project("ps", "--all"), project("logs", "--tail", "30"))
        raise
    finally:
        project.follow("remove everything")
    assert not (remains := project.remains()), remains


def forget_image(engine: Engine) -> None:
    """Remove the name of the image, not its layers: Compose has to build it, from the cache."""
    engine.docker("rmi", "--no-prune", NAME)
