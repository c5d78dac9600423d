"""Starts one S3 server on the loopback, makes the bucket, and stops it again."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.processes import stop
from tests.providers.catalogue import BUCKET, KEY, SECRET, config_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.providers.catalogue import Provider

START_SECONDS = 180.0  # Ceph takes 30 on an idle machine
STOP_SECONDS = 10.0


def install(provider: Provider) -> None:
    """Get a server that is not in the cache yet; minutes for those in Go."""
    if provider.is_installed:
        return
    print(f"installing {provider.name}", flush=True)
    for command in provider.install:
        subprocess.run(command, check=True)


@contextmanager
def serving(provider: Provider, home: Path) -> Iterator[dict[str, str]]:
    """Run a server with an empty bucket; yield the variables by which services reach it."""
    port = free_port()
    data = home / "data"
    data.mkdir(parents=True)
    if provider.config:
        config = config_of(data)
        config.write_text(provider.config(data, port, free_port()))
        config.chmod(0o600)  # it has secrets
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [*(provider.launcher or [str(provider.program)]), *provider.argv(data, port)],
            env={**os.environ, "HOME": str(home), **provider.env},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            variables = _variables(provider, port)
            _make_bucket(variables, process)
            yield variables
        finally:
            stop(process, STOP_SECONDS)


def _variables(provider: Provider, port: int) -> dict[str, str]:
    return {
        "S3_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "S3_REGION": provider.region,
        "S3_BUCKET": BUCKET,
        "S3_ACCESS_KEY_ID": KEY,
        "S3_SECRET_ACCESS_KEY": SECRET,
    }


def _make_bucket(variables: dict[str, str], process: subprocess.Popen[bytes]) -> None:
    client = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=variables["S3_ENDPOINT_URL"],
        region_name=variables["S3_REGION"],
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )
    give_up_at = time.monotonic() + START_SECONDS
    while True:
        try:
            client.create_bucket(Bucket=BUCKET)
        except (BotoCoreError, ClientError):
            if process.poll() is not None or time.monotonic() > give_up_at:
                raise
            time.sleep(0.3)
        else:
            return


def free_port() -> int:
    """Return a port of the loopback that nothing listens on.

    Like the next ones and those 10,000 above, which SeaweedFS also uses, it is below the ports that the
    kernel gives to connections.
    """
    for _ in range(100):
        port = random.randrange(12_000, 22_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")
