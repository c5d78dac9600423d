"""`make bench-store`: how fast the uploader puts objects, beside s5cmd and rclone, into servers here.

Wall time depends on what else the machine does, so each size is put by all three in turn, several times, and
what counts is the ratio of the fastest rounds; CPU seconds are those of the client alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.providers.catalogue import BUCKET, KEY, PACKAGES, PROVIDERS, PYTHON, SECRET
from tests.providers.server import install, serving

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.providers.catalogue import Provider

SIZES = {"20 kB": (20_000, 400), "500 kB": (500_000, 120), "2 MB": (2_000_000, 60)}
UNUSED = {"DATABASE_URL": "postgresql://unused/x", "RABBITMQ_URL": "amqp://unused/", "STORAGE_TYPE": "s3"}


@dataclass(frozen=True)
class Round:
    """One run of one client over one folder."""

    seconds: float
    cpu_seconds: float


def run(argv: Sequence[str], env: Mapping[str, str], *, says_seconds: bool = False) -> Round:
    """Run a client; `says_seconds`: it prints how long it took without its own start."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(argv, env={**os.environ, **env}, check=True, capture_output=True, text=True)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Round(float(done.stdout.split()[-1]) if says_seconds else seconds, cpu)


def clients(folder: Path, prefix: str, variables: Mapping[str, str]) -> dict[str, Round]:
    """Put a folder by each client in turn."""
    url = variables["S3_ENDPOINT_URL"]
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": variables["S3_REGION"]}
    remote = f":s3,provider=Other,endpoint='{url}',access_key_id={KEY},secret_access_key={SECRET}:{BUCKET}"
    ours = [sys.executable, "-m", "tests.bench.store_ours", str(folder), f"{prefix}/ours"]
    s5cmd = [str(PYTHON / "s5cmd"), "--log", "error", "--endpoint-url", url, "cp", f"{folder}/"]
    rclone = [str(PYTHON / "rclone"), "copy", "--s3-no-check-bucket", "--transfers", "12", str(folder)]
    return {
        "ours": run(ours, {**UNUSED, **variables, "WORK_DIR": str(folder)}, says_seconds=True),
        "s5cmd": run([*s5cmd, f"s3://{BUCKET}/{prefix}/s5cmd/"], keys),
        "rclone": run([*rclone, f"{remote}/{prefix}/rclone"], {"RCLONE_CONFIG": os.devnull}),
    }


def measure(variables: Mapping[str, str], home: Path, rounds: int) -> dict[str, Any]:
    """Return for each size the fastest round of each client, and our rate as a share of s5cmd's."""
    results: dict[str, Any] = {}
    for name, (size, count) in SIZES.items():
        folder = home / name.replace(" ", "")
        folder.mkdir()
        for number in range(count):
            (folder / f"segment_{number:04d}.ts").write_bytes(os.urandom(size))
        all_rounds = [clients(folder, f"bench/{folder.name}/{each}", variables) for each in range(rounds)]
        best = {client: min(each[client].seconds for each in all_rounds) for client in all_rounds[0]}
        cpu = {client: min(each[client].cpu_seconds for each in all_rounds) for client in all_rounds[0]}
        results[name] = {
            "objects": count,
            "seconds": {client: round(value, 3) for client, value in best.items()},
            "cpuSeconds": {client: round(value, 3) for client, value in cpu.items()},
            "rateOfS5cmd": round(best["s5cmd"] / best["ours"], 2),
        }
        print(f"{name:<8}{results[name]}", flush=True)
    return results


def _on(server: Provider, rounds: int) -> dict[str, Any]:
    install(server)
    print(f"{server.name} {server.version}", flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        with serving(server, home / "server") as variables:
            return {"version": server.version, "sizes": measure(variables, home, rounds)}


def main(arguments: Sequence[str]) -> int:
    """Measure and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.store")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--servers", default="minio,seaweedfs", help="names by comma")
    parser.add_argument("--json", default="docs/bench/store.json")
    given = parser.parse_args(arguments)
    if not (PYTHON / "s5cmd").exists():
        for command in PACKAGES:
            subprocess.run(command, check=True)
    results = {name: _on(PROVIDERS[name], given.rounds) for name in given.servers.split(",")}
    Path(given.json).write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
