"""Other S3 servers that run on this machine: how each is obtained, and how it is started."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CACHE = Path.home() / ".cache" / "vod-test-providers"
CONTRACT = "tests/integration/test_storage.py::TestS3Storage"
COPIES = (
    "tests/integration/test_storage.py"
    "::test_the_server_copies_between_buckets_and_describes_the_object_by_its_new_name"
)
KEY, SECRET, BUCKET = "vodtestkey", "vodtestsecretvodtestsecret", "videos"  # Garage wants 16 characters
PYTHON = CACHE / "venv" / "bin"


@dataclass(frozen=True)
class Provider:
    """A server; `argv` takes the directory for its data and the port, `install` fetches it.

    `config` is the text of its configuration file for those two and another free port; the file is beside the
    data. `launcher` starts the program where that takes more than one process. `lacks` are checks of the
    doctor that it is known to fail, `differs` such tests (docs/providers.md).
    """

    name: str
    version: str
    program: Path
    install: Sequence[Sequence[str]]
    argv: Callable[[Path, int], Sequence[str]]
    region: str = "us-east-1"
    env: Mapping[str, str] = field(default_factory=dict)
    config: Callable[[Path, int, int], str] | None = None
    launcher: Sequence[str] = ()
    lacks: frozenset[str] = frozenset()
    differs: tuple[str, ...] = ()

    @property
    def is_installed(self) -> bool:
        return self.program.exists()


def config_of(home: Path) -> Path:
    """Return the name of the configuration file of a server with this directory for its data."""
    return home.with_name("config")


def _garage(home: Path, port: int, other_port: int) -> str:
    return f"""
metadata_dir = "{home}/meta"
data_dir = "{home}/data"
db_engine = "lmdb"
metadata_fsync = false
replication_factor = 1
rpc_bind_addr = "127.0.0.1:{other_port}"
rpc_public_addr = "127.0.0.1:{other_port}"
rpc_secret = "{"0" * 64}"
[s3_api]
s3_region = "garage"
api_bind_addr = "127.0.0.1:{port}"
"""


def _go(module: str) -> list[list[str]]:
    return [["env", f"GOBIN={CACHE / 'bin'}", "go", "install", module]]


PACKAGES = [
    ["python3", "-m", "venv", str(CACHE / "venv")],
    [str(PYTHON / "pip"), "install", "-q", "--require-hashes", "-r", "tests/providers/requirements.lock"],
]

GARAGE = [  # not optimized: it is built in a third of the time, and only answers tests
    *("env", "CARGO_PROFILE_RELEASE_OPT_LEVEL=0", "CARGO_PROFILE_RELEASE_LTO=off"),
    *("cargo", "install", "--quiet", "garage", "--version", "2.5.0", "--locked", "--root", str(CACHE)),
    *("--no-default-features", "--features", "bundled-libs,lmdb"),
]
CEPH = [sys.executable, "-m", "tests.providers.ceph"]

SEAWEEDFS = Path(sys.executable).with_name("weed")  # of the suite's own wheel


def _seaweedfs(home: Path, port: int, _: int) -> str:
    keys = [{"accessKey": KEY, "secretKey": SECRET}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return json.dumps({"identities": [{"name": "vod", "credentials": keys, "actions": actions}]})


def _weed(home: Path, port: int) -> list[str]:
    others = {name: port + step for step, name in enumerate(("master", "volume", "filer"), start=1)}
    return [
        *("-logtostderr", "server", "-s3", f"-dir={home}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *(f"-s3.port={port}", f"-s3.config={config_of(home)}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *(f"-{name}.port={number}" for name, number in others.items()),
        *("-volume.max=50", "-master.volumeSizeLimitMB=64"),
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
            "garage",
            "2.5.0",
            CACHE / "bin" / "garage",
            [GARAGE],
            lambda home, _: ["-c", str(config_of(home)), "server", "--single-node", "--default-access-key"],
            region="garage",
            env={"GARAGE_DEFAULT_ACCESS_KEY": KEY, "GARAGE_DEFAULT_SECRET_KEY": SECRET},
            config=_garage,
        ),
        Provider(
            "ceph",
            "16.2.15",
            CACHE / "ceph" / "usr" / "bin" / "radosgw",
            [[*CEPH, "install"]],
            lambda home, port: ["run", str(home), str(port)],
            env={"HOME": str(Path.home())},  # where the packages are
            launcher=CEPH,
        ),
        Provider("seaweedfs", "4.48", SEAWEEDFS, [], _weed, config=_seaweedfs),
        Provider(
            "rclone",
            "1.75.2",
            PYTHON / "rclone",
            PACKAGES,
            lambda home, port: [
                *("serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}", str(home)),
                *("--vfs-cache-mode", "off"),
            ],
            differs=(  # keys are paths, and copies of parts are treated as uploads
                f"{CONTRACT}::test_delete_of_a_key_below_an_object_leaves_the_object",
                f"{COPIES}[5242880]",
            ),
        ),
        Provider(
            "moto",
            "5.2.5",
            PYTHON / "moto_server",
            PACKAGES,
            lambda _, port: ["-H", "127.0.0.1", "-p", str(port)],
            differs=(  # every upload was begun in 2010, and any credentials will do
                f"{CONTRACT}::test_open_upload_is_listed_until_it_is_aborted",
                "tests/integration/test_storage.py::test_check_names_the_keys_when_they_are_wrong",
            ),
        ),
    )
}
