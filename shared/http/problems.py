"""Errors as RFC 9457 problem details."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from shared.errors import DatabaseUnavailable, PermanentError, PipelineError, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger()


class HttpProblem(PermanentError):
    """An answer that is no success: status, stable reason, and what to do about it (RFC 9457)."""

    def __init__(
        self, status: int, reason: str, message: str, *, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.headers = status, reason, headers or {}


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except HttpProblem as error:
        return problem(error.status, error.reason, error.message, headers=error.headers)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return problem(error.status, _snake(error.reason), error.text or error.reason, headers=_allow(error))
    except (DatabaseUnavailable, StorageUnavailable) as error:
        log.warning("unavailable", reason=error.reason, error=str(error))
        retry = {"Retry-After": "5"}
        return problem(
            503, error.reason, "a part that this needs does not answer: try again soon", headers=retry
        )
    except PipelineError as error:
        return problem(400 if isinstance(error, PermanentError) else 503, error.reason, error.message)
    except ConnectionResetError:
        raise  # the client is gone: there is nobody to answer
    except Exception:
        log.exception("request_failed")
        return problem(500, "internal_error", "something went wrong here; the request id finds it in the log")


def problem(status: int, reason: str, detail: str, *, headers: dict[str, str] | None = None) -> web.Response:
    """Return RFC 9457 problem details with our stable `reason`."""
    body = {"type": "about:blank", "title": reason.replace("_", " "), "status": status, "reason": reason}
    text = json.dumps(body | {"detail": detail})
    return web.Response(text=text, status=status, content_type="application/problem+json", headers=headers)


def _snake(words: str) -> str:
    return re.sub(r"[^a-z]+", "_", words.lower()).strip("_")


def _allow(error: web.HTTPException) -> dict[str, str]:
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
