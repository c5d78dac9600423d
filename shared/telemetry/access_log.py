"""Logs one line per HTTP request, bypassing the processors of other lines for speed."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

REMEMBERED: Final = 4096
OWN_ID: Final = re.compile(r"[0-9a-f-]{32,36}")  # needs neither masking nor quoting
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

log = structlog.get_logger()


class AccessLog:
    """Writes the lines of requests: directly as JSON once configured, until then like any other line."""

    def __init__(self) -> None:
        self._path: Callable[[str], str] = json.dumps
        self._service: str | None = None

    def write_json(self, service: str, redact: Callable[[str], str]) -> None:
        """Write JSON to standard output from now on; `redact` masks secrets that clients put into a path."""
        self._service, self._path = service, lru_cache(REMEMBERED)(lambda text: json.dumps(redact(text)))

    def write_as_others(self) -> None:
        """Write the lines of requests like all others."""
        self._service = None

    def write(
        self, about: dict[str, float], ids: dict[str, str], path: str, method: str, *, is_probe: bool = False
    ) -> None:
        """Log a request; `about` holds numbers, `ids` the context that other lines get automatically."""
        if self._service is None or is_probe:
            (log.debug if is_probe else log.info)("http", method=method, path=path, **about)
            return
        named = method if method in METHODS else "other"
        now = datetime.now(UTC).isoformat(timespec="microseconds")[:-6]
        values = "".join(f', "{name}": {value}' for name, value in about.items())
        known = "".join(f', "{name}": {self._quoted(value)}' for name, value in ids.items())
        sys.stdout.write(
            f'{{"method": "{named}", "path": {self._path(path)}{values}{known}, "event": "http",'
            f' "service": "{self._service}", "level": "info", "timestamp": "{now}Z"}}\n'
        )
        sys.stdout.flush()

    def _quoted(self, value: str) -> str:
        return f'"{value}"' if OWN_ID.fullmatch(value) else self._path(value)


ACCESS_LOG: Final = AccessLog()
