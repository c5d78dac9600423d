"""What an operator runs by hand: `python -m services.ingest create-key`, which needs only DATABASE_URL."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from typing import TYPE_CHECKING, NoReturn

import asyncpg
import structlog
from pydantic import ValidationError

from services.ingest.auth.api_keys import create_key
from services.ingest.models import NewKey
from shared.contracts.cloudevents import explain
from shared.database.pool import open_database
from shared.errors import ConfigurationError, PipelineError
from shared.settings import DATABASE_SCHEMES, expect_scheme

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED, WRONG_USE = 1, 2


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def run_command(arguments: Sequence[str]) -> int:
    """Run a command; return 0, 1 when it failed, or 2 for wrong use, with one line on standard error."""
    structlog.configure(  # standard output is for the key alone, standard error for one line
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
    )
    try:
        new = _parse(arguments)
        key = asyncio.run(_create_key(_database_url(), new))
    except ValidationError as error:
        return _fail(explain(error).removeprefix("body: "), WRONG_USE)
    except ValueError as error:
        return _fail(str(error), WRONG_USE)
    except (PipelineError, ConfigurationError, asyncpg.PostgresError, OSError) as error:
        return _fail(str(error), FAILED)
    sys.stdout.write(f"{key}\n")
    return 0


def _parse(arguments: Sequence[str]) -> NewKey:
    parser = _Parser(prog="python -m services.ingest", description="Without a command: run the service.")
    command = parser.add_subparsers(dest="command", required=True, parser_class=_Parser).add_parser(
        "create-key", help="create an API key and print it"
    )
    command.add_argument("--scope", required=True, choices=["admin", "service", "user"])
    command.add_argument("--user-id", help="needed for the scope user, and for no other")
    command.add_argument("--name", required=True, help="who will hold the key")
    given = parser.parse_args(arguments)
    return NewKey.model_validate({"name": given.name, "scope": given.scope, "userId": given.user_id})


def _database_url() -> str:
    url = os.environ.get("DATABASE_URL")
    if not url:
        raise ValueError("DATABASE_URL is required")
    try:
        expect_scheme(url, *DATABASE_SCHEMES)
    except ValueError as error:
        raise ValueError(f"DATABASE_URL {error}") from None
    return url


async def _create_key(url: str, new: NewKey) -> str:
    async with open_database(url, connections=1) as database, database.transaction() as connection:
        return (await create_key(connection, new)).key


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"create-key: {message}\n")
    return code
