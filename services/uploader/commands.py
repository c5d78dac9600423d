"""What an operator runs by hand: `python -m services.uploader sweep`, with the services' own environment."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from services.uploader.sweeping import Sweeper
from services.uploader.unowned import KINDS
from shared.database import open_database
from shared.errors import PipelineError
from shared.layout import WorkDir
from shared.settings import ConfigurationError, load_settings
from shared.storage import open_storage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from services.uploader.unowned import Unowned
    from shared.settings import Settings

COULD_NOT_RUN = 2


def run_command(arguments: Sequence[str], default_port: int) -> int:
    """Run a command; return its exit code: 2 when it could not run, with one line on standard error."""
    given = _parse(arguments)
    structlog.configure(  # standard output is for the report alone
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
    )
    try:
        return asyncio.run(_sweep(load_settings(default_port), remove=given.remove))
    except (PipelineError, ConfigurationError, OSError) as error:
        sys.stderr.write(f"{given.command}: {error}\n")
        return COULD_NOT_RUN


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m services.uploader", description="Without a command: run the service."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    sweep = commands.add_parser("sweep", help="look for files and objects that nobody owns")
    sweep.add_argument("--remove", action="store_true", help="remove it; else only say what would go")
    return parser.parse_args(arguments)


@asynccontextmanager
async def _sweeper(settings: Settings) -> AsyncIterator[Sweeper]:
    url = settings.database_url.get_secret_value()
    async with open_database(url, connections=2) as database, open_storage(settings) as storage:
        await storage.check()
        yield Sweeper(settings, database, WorkDir(settings.work_dir.resolve()), storage)


async def _sweep(settings: Settings, *, remove: bool) -> int:
    async with _sweeper(settings) as sweeper:
        found = await sweeper.sweep(remove=remove)
    if found is None:
        raise PipelineError("another sweep is under way")
    for unowned in found:
        sys.stdout.write(f"{unowned.kind:<12}{unowned.bytes:>14}  {unowned.name}\n")
    sys.stdout.write(_summary(found, "removed" if remove else "found"))
    return 0


def _summary(found: Sequence[Unowned], done: str) -> str:
    counts = {kind: sum(unowned.kind == kind for unowned in found) for kind in KINDS}
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "nothing"
    return f"{done}: {told}; {sum(unowned.bytes for unowned in found)} bytes\n"
