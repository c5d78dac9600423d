"""Creates the buckets and a first API key, which is printed, before compose.yaml's services start.

Every `docker compose up` runs this; existing buckets and keys are left alone.
"""

from __future__ import annotations

import asyncio
import os
import sys
from ipaddress import ip_address
from typing import TYPE_CHECKING

from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

from services.ingest.auth.api_keys import create_key, list_keys
from services.ingest.models import NewKey
from shared.database.pool import open_database
from shared.errors import ConfigurationError, PipelineError

if TYPE_CHECKING:
    from collections.abc import Mapping

LOCAL_ONLY = "local-only"  # the default of every secret in compose.yaml
SECRETS = {
    "POSTGRES_PASSWORD": "DATABASE_URL",
    "RABBITMQ_PASSWORD": "RABBITMQ_URL",
    "S3_SECRET_ACCESS_KEY": "S3_SECRET_ACCESS_KEY",
}


def main(environ: Mapping[str, str]) -> int:
    """Prepare the servers; return the exit status."""
    if weak := weak_secrets(environ):
        return _fail(f"BIND={environ['BIND']} lets others in: put {', '.join(weak)} into .env first")
    try:
        _say(asyncio.run(_prepare(environ)))
    except (PipelineError, ConfigurationError, BotoCoreError, ClientError, OSError) as error:
        return _fail(str(error))
    return 0


def weak_secrets(environ: Mapping[str, str]) -> list[str]:
    """Return the secrets that have their default although BIND reaches beyond this machine."""
    if ip_address(environ["BIND"]).is_loopback:
        return []
    return [name for name, variable in SECRETS.items() if LOCAL_ONLY in environ[variable]]


async def _prepare(environ: Mapping[str, str]) -> str:
    await _make_buckets(environ)
    async with open_database(environ["DATABASE_URL"]) as database, database.transaction() as connection:
        if await list_keys(connection):
            return (
                "There is an API key already. For another one:\n"
                "  docker compose exec ingest python -m services.ingest create-key --scope admin --name NAME"
            )
        made = await create_key(connection, NewKey(name="first", scope="admin"))
    return f"The first API key, for an admin; it is shown this once:\n  {made.key}"


async def _make_buckets(environ: Mapping[str, str]) -> None:
    """Create the missing buckets. Raises ClientError or BotoCoreError."""
    client = get_session().create_client(
        "s3",
        endpoint_url=environ["S3_ENDPOINT_URL"],
        region_name=environ["S3_REGION"],
        aws_access_key_id=environ["S3_ACCESS_KEY_ID"],
        aws_secret_access_key=environ["S3_SECRET_ACCESS_KEY"],
    )
    async with client as s3:
        for bucket in buckets(environ):
            try:
                await s3.head_bucket(Bucket=bucket)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                    raise
                await s3.create_bucket(Bucket=bucket)


def buckets(environ: Mapping[str, str]) -> list[str]:
    """Return the buckets that the services use: the one for work may be that of the videos."""
    names = [environ["S3_BUCKET"]]
    if environ["WORK"] == "bucket":
        names.append(environ.get("S3_WORK_BUCKET") or environ["S3_BUCKET"])
    return sorted(set(names))


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")


def _fail(why: str) -> int:
    sys.stderr.write(f"setup: {why}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(os.environ))
