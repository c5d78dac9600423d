"""The life cycle of a service process: settings, logs, serve, exit code."""

from __future__ import annotations

import asyncio
import resource
import sys
from typing import TYPE_CHECKING, TypeVar

import structlog

from shared.errors import ConfigurationError, PipelineError
from shared.http.server import serve
from shared.settings import ProcessSettings, load_settings
from shared.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

WRONG_CONFIGURATION = 2
FAILED = 1
OPEN_FILES = 65_536  # every viewer needs two; the usual soft limit is 1024

Read = TypeVar("Read", bound=ProcessSettings)

log = structlog.get_logger()


def run(
    name: str,
    default_port: int,
    settings_of: type[Read],
    create_app: Callable[[Read], web.Application],
    *,
    shares_port: bool = False,
) -> int:
    """Run a service until it receives a signal to stop; return the exit code of the process.

    With `shares_port` other processes may listen on the same port.
    """
    try:
        settings = load_settings(settings_of, default_port)
        configure_logs(settings, name)
        log.info("configuration", **settings.masked())
        _allow_open_files()
        asyncio.run(serve(create_app(settings), settings, shares_port=shares_port))
    except ConfigurationError as error:
        sys.stderr.write(f"{name}: invalid configuration: {error}\n")
        return WRONG_CONFIGURATION
    except PipelineError as error:
        log.error("cannot_run", reason=error.reason, error=error.message)  # noqa: TRY400
        return FAILED
    except OSError as error:
        log.error("cannot_run", reason="os_error", error=str(error))  # noqa: TRY400
        return FAILED
    return 0


def _allow_open_files() -> None:
    """Raise the soft limit of open files to OPEN_FILES, or as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
