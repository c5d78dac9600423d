"""Endpoints for API keys (admin)."""

from __future__ import annotations

from aiohttp import web

from services.ingest.auth import api_keys
from services.ingest.http.requests import answer, read_json, read_uuid
from services.ingest.http.resources import DATABASE
from services.ingest.models import KeyList, NewKey
from shared.errors import NotFound


async def list_keys(request: web.Request) -> web.Response:
    """Answer with the record of every key."""
    async with request.app[DATABASE].transaction() as connection:
        return answer(KeyList(keys=await api_keys.list_keys(connection)))


async def create_key(request: web.Request) -> web.Response:
    """Create a key and show it once."""
    new = await read_json(request, NewKey)
    async with request.app[DATABASE].transaction() as connection:
        created = await api_keys.create_key(connection, new)
    return answer(created, status=201, headers={"Cache-Control": "no-store"})


async def revoke_key(request: web.Request) -> web.Response:
    """Revoke a key."""
    key_id = read_uuid(request, "key_id")
    async with request.app[DATABASE].transaction() as connection:
        if not await api_keys.revoke_key(connection, key_id):
            raise NotFound("there is no key with this id, or it is already revoked")
    return web.Response(status=204)
