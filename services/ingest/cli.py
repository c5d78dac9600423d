"""Commands for operators; they need only DATABASE_URL:

python -m services.ingest create-key --scope admin --name me   an API key python -m services.ingest
playback-token VIDEO_ID              a token that lets its holder watch a video python -m services.ingest
inspect-token TOKEN                  the claims of a playback token, and whether it is valid python -m
services.ingest rotate-playback-key                  a new key that signs tokens and grants
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, NoReturn
from uuid import UUID

import asyncpg
import structlog
from pydantic import ValidationError

from services.ingest.auth.api_keys import create_key
from services.ingest.models import NewKey
from services.ingest.playback_models import TokenRequest
from shared import videos
from shared.contracts.cloudevents import explain
from shared.database.pool import open_database
from shared.errors import ConfigurationError, NotFound, PipelineError
from shared.playback import key_store, tokens
from shared.playback.models import Viewer
from shared.settings import DATABASE_SCHEMES, expect_scheme

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from shared.database.pool import Connection

    Command = Callable[[Connection], Awaitable[str]]

FAILED, WRONG_USE = 1, 2
KEEP_SECONDS = 7 * 86400.0  # how long a previous key still verifies: the maximum lifetime of our tokens


class _Parser(argparse.ArgumentParser):
    """Reports errors in one line."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def run_command(arguments: Sequence[str]) -> int:
    """Run a command; return 0, 1 if it failed or 2 for a usage error, with one line on standard error."""
    structlog.configure(  # standard output is for the result only, standard error for one line
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
    )
    name = arguments[0]
    try:
        command = _parse(arguments)
        result = asyncio.run(_run(_database_url(), command))
    except ValidationError as error:
        return _fail(name, explain(error).removeprefix("body: "), WRONG_USE)
    except ValueError as error:
        return _fail(name, str(error), WRONG_USE)
    except (PipelineError, ConfigurationError, asyncpg.PostgresError, OSError) as error:
        return _fail(name, str(error), FAILED)
    sys.stdout.write(f"{result}\n")
    return 0


def _parse(arguments: Sequence[str]) -> Command:
    parser = _Parser(prog="python -m services.ingest", description="Without a command: run the service.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    key = commands.add_parser("create-key", help="create an API key and print it")
    key.add_argument("--scope", required=True, choices=["admin", "service", "user"])
    key.add_argument("--user-id", help="required for scope user, not allowed for others")
    key.add_argument("--name", required=True, help="the holder of the key")
    token = commands.add_parser("playback-token", help="print a token that lets its holder watch a video")
    token.add_argument("video_id", type=UUID)
    token.add_argument("--ttl-seconds", type=int, default=3600)
    token.add_argument("--max-height", type=int, help="the largest short side of renditions, in pixels")
    token.add_argument("--origin", action="append", default=[], help="a site that may embed it; repeatable")
    token.add_argument("--ip", action="append", default=[], help="an address or range it is for; repeatable")
    inspect = commands.add_parser(
        "inspect-token", help="print the claims of a playback token and whether it is valid"
    )
    inspect.add_argument("token")
    commands.add_parser("rotate-playback-key", help="make a new key that signs tokens and grants")
    return _command(parser.parse_args(arguments))


def _command(given: argparse.Namespace) -> Command:
    if given.command == "create-key":
        new = NewKey.model_validate({"name": given.name, "scope": given.scope, "userId": given.user_id})
        return lambda connection: _create_key(connection, new)
    if given.command == "playback-token":
        limits = {"maxHeight": given.max_height, "origins": given.origin, "ip": given.ip}
        wanted = TokenRequest.model_validate({"ttlSeconds": given.ttl_seconds} | limits)
        return lambda connection: _playback_token(connection, given.video_id, wanted)
    if given.command == "inspect-token":
        return lambda connection: _inspect_token(connection, given.token)
    return lambda connection: key_store.rotate(connection, keep_seconds=KEEP_SECONDS)


async def _run(url: str, command: Command) -> str:
    async with open_database(url, connections=1) as database, database.transaction() as connection:
        return await command(connection)


async def _create_key(connection: Connection, new: NewKey) -> str:
    return (await create_key(connection, new)).key


async def _playback_token(connection: Connection, video_id: UUID, wanted: TokenRequest) -> str:
    video = await videos.get(connection, video_id)
    if video is None or video.status == "deleted":
        raise NotFound(f"there is no video {video_id}")
    key = await key_store.signing_key(connection)
    viewer = Viewer(
        video_id=video_id,
        kid=key.kid,
        expires_at=int(time.time()) + wanted.ttl_seconds,
        generation=video.token_generation,
        max_height=wanted.max_height,
        origins=wanted.origins,
        networks=tuple(map(tokens.read_network, wanted.ip)),
    )
    return tokens.sign(viewer, key)


async def _inspect_token(connection: Connection, token: str) -> str:
    """Describe a token as JSON; `fault` is null if it is valid now."""
    viewer = tokens.read(token, {key.kid: key for key in await key_store.all_keys(connection)})
    video = await videos.get(connection, viewer.video_id)
    generation = video.token_generation if video else -1
    fault = None
    try:
        tokens.check(viewer, now=time.time(), video_id=viewer.video_id, generation=generation)
    except PipelineError as error:
        fault = error.message
    said = {
        "videoId": str(viewer.video_id),
        "kid": viewer.kid,
        "expiresAt": viewer.expires_at,
        "generation": viewer.generation,
        "maxHeight": viewer.max_height,
        "origins": list(viewer.origins),
        "ip": [str(network) for network in viewer.networks],
        "fault": fault if video else "there is no such video",
    }
    return json.dumps(said, indent=2)


def _database_url() -> str:
    url = os.environ.get("DATABASE_URL")
    if not url:
        raise ValueError("DATABASE_URL is required")
    try:
        expect_scheme(url, *DATABASE_SCHEMES)
    except ValueError as error:
        raise ValueError(f"DATABASE_URL {error}") from None
    return url


def _fail(command: str, message: str, code: int) -> int:
    sys.stderr.write(f"{command}: {message}\n")
    return code
