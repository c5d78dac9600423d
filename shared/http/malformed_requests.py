"""HTTP connections that are counted, and answer and log malformed requests with fixed texts.

aiohttp itself answers requests that never reach a handler, and quotes them in answer and log: a broken
`Authorization` header would leak an API key.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import structlog
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, InvalidURLError, LineTooLong

from shared.http.connections import CONNECTIONS
from shared.http.problems import REQUEST_ID, http_problem, problem
from shared.telemetry.logs import raised_at
from shared.telemetry.metrics import HTTP_MALFORMED, HTTP_REQUESTS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from aiohttp.web_request import BaseRequest

    from shared.http.connections import Connections

    Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

MALFORMED: Final = (400, "malformed_request", "The head of the request is not valid HTTP (RFC 9112)")
KINDS: Final = (
    (LineTooLong, (431, "head_too_large", "The request line and each header may have at most 8190 bytes")),
    (BadHttpMethod, (*MALFORMED[:2], "The method is not valid, or the request is TLS on a plain HTTP port")),
    (InvalidURLError, (*MALFORMED[:2], "The URL is not valid")),
)

log = structlog.get_logger()


class Connection(web.RequestHandler):
    """A connection that never quotes a request that could not be read or answered."""

    __slots__ = ("_all",)

    def __init__(self, server: Server, all_open: Connections | None, **options: Any) -> None:
        super().__init__(server, **options)
        self._all = all_open

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, perhaps in place of another connection."""
        super().connection_made(transport)
        if self._all is not None:
            self._all.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        if self._all is not None:
            self._all.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        if self._all is not None:
            self._all.used(self)
        super().data_received(data)

    def resume_writing(self) -> None:
        """Continue writing: the client has read what was written before."""
        if self._all is not None:
            self._all.used(self)
        super().resume_writing()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the request
    ) -> web.StreamResponse:
        """Return the answer to a malformed head, or to a request that failed outside its handler.

        Raises ConnectionError if the answer has already started: the connection can only be closed.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has already started")
        request_id = uuid4().hex
        if status < 500:
            answer = _answer_malformed(exc, request_id)
        else:
            log.error("request_failed", request_id=request_id, **raised_at(exc))
            answer = problem(500, "internal_error", "Internal error; search the log for the request id")
        answer.headers[REQUEST_ID] = request_id
        answer.force_close()
        return answer

    def log_exception(self, *_: Any, **kw: Any) -> None:
        """Log where a connection failed, without the exception's text."""
        error = kw.get("exc_info")
        log.error("connection_failed", **raised_at(error if isinstance(error, BaseException) else None))


class Server(web.Server):
    """Creates a Connection for each client of an application."""

    all_open: Connections | None = None

    def __call__(self) -> Connection:
        return Connection(self, self.all_open, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs an application with the connection class of this module."""

    async def _make_server(self) -> Server:
        made = await super()._make_server()
        server = Server(
            partial(_answer_statuses, made.request_handler),
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            **made._kwargs,  # noqa: SLF001 - aiohttp has no option for the class of its connections
        )
        server.all_open = self.app.get(CONNECTIONS)
        return server


async def _answer_statuses(handle: Handler, request: web.BaseRequest) -> web.StreamResponse:
    """Handle a request; a status raised outside the middlewares, as for `Expect`, becomes a problem."""
    try:
        return await handle(request)
    except web.HTTPException as error:
        request_id = uuid4().hex
        answer = http_problem(error)
        log.info("http", method=request.method, status=error.status, request_id=request_id)
        HTTP_REQUESTS.labels(request.method, "unknown", error.status).inc()
        answer.headers[REQUEST_ID] = request_id
        answer.force_close()  # the body was not requested but may arrive anyway
        return answer


def _answer_malformed(error: BaseException | None, request_id: str) -> web.Response:
    status, reason, detail = next((said for kind, said in KINDS if isinstance(error, kind)), MALFORMED)
    HTTP_MALFORMED.labels(reason).inc()
    log.info("malformed_request", request_id=request_id, reason=reason, kind=type(error).__name__)
    return problem(status, reason, detail)
