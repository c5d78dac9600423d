"""Errors as RFC 9457 problem details."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from shared.errors import (
    DatabaseUnavailable,
    Deferred,
    EmptyFile,
    Forbidden,
    InvalidRequest,
    MalformedBody,
    NotFound,
    OutOfDisk,
    PermanentError,
    PipelineError,
    PlaybackRefused,
    StorageUnavailable,
    TokenMissing,
    TooManyProcessing,
    TooManyUploads,
    TransientError,
    TryLater,
    Unauthorized,
    UnsupportedEncoding,
    UploadStalled,
    UploadTooLarge,
)
from shared.telemetry.metrics import HTTP_PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

STATUS: dict[type[PipelineError], int] = {  # the nearest class in the error's MRO decides
    InvalidRequest: 400,
    EmptyFile: 400,
    PermanentError: 400,
    Unauthorized: 401,
    TokenMissing: 401,
    Forbidden: 403,
    PlaybackRefused: 403,
    NotFound: 404,
    UploadStalled: 408,
    UploadTooLarge: 413,
    UnsupportedEncoding: 415,
    TooManyProcessing: 429,
    TooManyUploads: 503,
    DatabaseUnavailable: 503,
    TransientError: 503,
    PipelineError: 503,
    OutOfDisk: 507,
}
CLIENT_GONE = 499  # the client disconnected first: for logs and metrics only

REQUEST_ID = "X-Request-Id"
IDENTITY = "identity"

log = structlog.get_logger()


class HttpProblem(PermanentError):
    """An error answer: status, stable reason and advice (RFC 9457).

    `members` are its extension members (section 3.2).
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        headers: dict[str, str] | None = None,
        members: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.headers = status, reason, headers or {}
        self.members = members or {}


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        _refuse_encoding(request)
        return await _with_whole_body(request, handler)
    except HttpProblem as error:
        members = error.members
        return problem(error.status, error.reason, error.message, headers=error.headers, members=members)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return http_problem(error)
    except PipelineError as error:
        return problem_of(error)
    except Exception as error:  # noqa: BLE001 - it is logged there
        return _unforeseen(request, error)


def _unforeseen(request: web.Request, error: Exception) -> web.Response:
    """Log an unexpected failure and return the answer, unless the client has disconnected."""
    is_gone = request.transport is None or request.transport.is_closing()
    if isinstance(error, ConnectionError) and is_gone:
        return web.Response(status=CLIENT_GONE)
    log.error("request_failed", exc_info=error)
    return problem(500, "internal_error", "Internal error; see the service log for this request id")


def problem_of(error: PipelineError) -> web.Response:
    """Return the answer for an error of the tree."""
    if isinstance(error, DatabaseUnavailable | StorageUnavailable):
        log.warning("unavailable", reason=error.reason, error=str(error))
        detail = "A dependency is unavailable; try again later"
        return problem(503, error.reason, detail, headers={"Retry-After": "5"})
    return problem(status_of(error), error.reason, error.message, headers=_headers(error))


def status_of(error: PipelineError) -> int:
    """Return the HTTP status of an error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def _headers(error: PipelineError) -> dict[str, str]:
    if isinstance(error, Unauthorized):  # RFC 6750, section 3
        given = ', error="invalid_token"' if error.sent_key else ""
        return {"WWW-Authenticate": f'Bearer realm="ingest"{given}'}
    if isinstance(error, UnsupportedEncoding):  # RFC 9110, section 15.5.16
        return {"Accept-Encoding": IDENTITY, "Connection": "close"}
    if isinstance(error, UploadStalled):
        return {"Connection": "close"}
    if isinstance(error, TryLater | Deferred):  # RFC 9110, section 10.2.3
        return {"Retry-After": f"{error.seconds:.0f}"}
    return {}


def _refuse_encoding(request: web.Request) -> None:
    """Raise UnsupportedEncoding for a compressed body: a few bytes could become gigabytes."""
    coding = request.headers.get("Content-Encoding", IDENTITY)
    if coding.strip().lower() not in ("", IDENTITY):
        raise UnsupportedEncoding("Send the body uncompressed, without Content-Encoding")


async def _with_whole_body(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except (RequestPayloadError, HttpProcessingError):
        raise MalformedBody("The body is truncated, or not encoded as its headers say") from None


def http_problem(error: web.HTTPException) -> web.Response:
    """Return the problem for a status raised by aiohttp, without its text, which may quote the request."""
    status = HTTPStatus(error.status)
    return problem(status, _snake(status.phrase), status.description or status.phrase, headers=_allow(error))


def problem(
    status: int,
    reason: str,
    detail: str,
    *,
    headers: dict[str, str] | None = None,
    members: dict[str, str] | None = None,
) -> web.Response:
    """Return RFC 9457 problem details with a stable `reason`, and count them."""
    HTTP_PROBLEMS.labels(int(status), reason).inc()
    body = {"type": "about:blank", "title": reason.replace("_", " "), "status": status, "reason": reason}
    text = json.dumps(body | {"detail": detail} | (members or {}))
    return web.Response(text=text, status=status, content_type="application/problem+json", headers=headers)


def _snake(words: str) -> str:
    return re.sub(r"[^a-z]+", "_", words.lower()).strip("_")


def _allow(error: web.HTTPException) -> dict[str, str]:
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
