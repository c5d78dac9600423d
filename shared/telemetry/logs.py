"""Structured logs: one JSON object per line (or a console format), with the ids of the current work."""

from __future__ import annotations

import logging
import sys
import warnings
from traceback import extract_tb
from typing import TYPE_CHECKING

import structlog
from aiohttp import BadContentDispositionHeader, BadContentDispositionParam

from shared.telemetry.access_log import ACCESS_LOG
from shared.telemetry.redaction import redactor, secrets_of

if TYPE_CHECKING:
    from structlog.typing import Processor

    from shared.settings import ProcessSettings

log = structlog.get_logger()


def configure_logs(settings: ProcessSettings, service: str) -> None:
    """Write our logs and those of libraries to standard output in the configured format."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    console = settings.log_format == "console"
    redact = redactor(secrets_of(settings))
    if console or settings.log_level not in ("DEBUG", "INFO"):
        ACCESS_LOG.write_as_others()
    else:
        ACCESS_LOG.write_json(service, redact)
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    renderer = plain if console else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.log_level]
        ),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                renderer,
                lambda _logger, _method, line: redact(str(line)),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=settings.log_level, force=True)
    logging.captureWarnings(capture=True)  # warnings on standard error would bypass redaction
    _quieten_libraries()
    structlog.contextvars.bind_contextvars(service=service)


def _quieten_libraries() -> None:
    warnings.filterwarnings("ignore", category=BadContentDispositionHeader)  # both would quote the request
    warnings.filterwarnings("ignore", category=BadContentDispositionParam)
    for library in ("aiobotocore", "aiohttp", "asyncio", "botocore"):
        logging.getLogger(library).setLevel(logging.WARNING)
    for library in ("aio_pika", "aiormq", "asyncpg"):  # our adapters report lost connections themselves
        logging.getLogger(library).setLevel(logging.CRITICAL)


def raised_at(error: BaseException | None) -> dict[str, object]:
    """Return the type of an error and the code locations it passed through, without its text."""
    trace = extract_tb(error.__traceback__) if error else []
    return {
        "kind": type(error).__name__,
        "trace": [f"{frame.filename}:{frame.lineno}" for frame in trace[-8:]],
    }


def request_id() -> str | None:
    """Return the id of the request that started the current work."""
    value = structlog.contextvars.get_contextvars().get("request_id")
    return value if isinstance(value, str) else None
