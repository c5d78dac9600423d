"""Parsing requests, checking API keys, and writing JSON answers."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from aiohttp import web
from pydantic import BaseModel, TypeAdapter, ValidationError

from services.ingest.auth.api_keys import find_caller
from services.ingest.auth.caller import bearer_key
from services.ingest.http.resources import CALLER, DATABASE
from shared import videos
from shared.contracts.cloudevents import explain
from shared.contracts.events import UserId
from shared.database.fair_slots import SHARE
from shared.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.ingest.auth.caller import Caller
    from services.ingest.models import Scope
    from shared.database.pool import Connection
    from shared.videos import Video

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

Body = TypeVar("Body", bound=BaseModel)
USER_ID: TypeAdapter[str] = TypeAdapter(UserId)


def guarded(handler: Handler, scopes: frozenset[Scope], query: type[BaseModel] | None) -> Handler:
    """Return the handler preceded by a check of the API key, which sets CALLER.

    The key is looked up for each request, so that a revoked key stops working at once. Without a query model
    an operation takes no parameters.
    """

    async def guard(request: web.Request) -> web.StreamResponse:
        key = bearer_key(request.headers.get("Authorization"))
        SHARE.set(hashlib.sha256(key.encode()).hexdigest())  # no key may occupy all connections to Postgres
        async with request.app[DATABASE].transaction() as connection:
            request[CALLER] = await find_caller(connection, key)
        SHARE.set(request[CALLER].share)
        request[CALLER].check_scope(scopes)
        if "\0" in request.path:  # Postgres cannot store it, so nothing can have this name
            raise NotFound("there is nothing with this name")
        if query is None and request.query:
            raise InvalidRequest("this operation takes no query parameters")
        return await handler(request)

    return guard


def answer(model: BaseModel, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return a model as JSON."""
    text = model.model_dump_json(by_alias=True)
    return web.Response(text=text, status=status, content_type="application/json", headers=headers)


async def read_json(request: web.Request, model: type[Body], *, empty: Body | None = None) -> Body:
    """Read the body; an empty one counts as `empty`. Raises InvalidRequest naming the invalid fields."""
    body = await request.read()
    if not body and empty is not None:
        return empty
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise InvalidRequest(explain(error)) from error


def read_query(request: web.Request, model: type[Body]) -> Body:
    """Parse the query string. Raises InvalidRequest naming the invalid parameters."""
    if len(request.query) != len(set(request.query)):
        raise InvalidRequest("a query parameter may be given only once")
    try:
        return model.model_validate(dict(request.query))
    except ValidationError as error:
        raise InvalidRequest(explain(error)) from error


def read_user_id(request: web.Request) -> str:
    """Return the user in the path. Raises Forbidden, NotFound."""
    try:
        user_id = USER_ID.validate_python(request.match_info["user_id"])
    except ValidationError as error:
        raise NotFound("there is no such user") from error
    request[CALLER].check_user(user_id)
    return user_id


def read_uuid(request: web.Request, name: str) -> UUID:
    """Return an id in the path. Raises NotFound when it is not a UUID in canonical form."""
    text = request.match_info[name]
    try:
        value = UUID(text)
    except ValueError as error:
        raise NotFound("there is no such id") from error
    if str(value) != text.lower():
        raise NotFound("there is no such id")
    return value


async def visible_video(connection: Connection, caller: Caller, video_id: UUID) -> Video:
    """Return a video that the caller may see. Raises NotFound, also for deleted ones."""
    video = await videos.get(connection, video_id)
    if video is None or video.status == "deleted" or not caller.may_see(video.user_id):
        raise NotFound("there is no such video")
    return video
