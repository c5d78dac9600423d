"""API keys: 256 random bits; Postgres stores only the SHA-256."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from services.ingest.auth.caller import Caller
from services.ingest.models import CreatedKey, KeyRecord
from shared.database.queries import all_rows
from shared.database.statements import ingest as sql
from shared.errors import Unauthorized
from shared.videos import changed

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from services.ingest.models import NewKey
    from shared.database.pool import Connection

PREFIX = "vod_"


def key_hash(key: str) -> bytes:
    """Return the hash under which a key is stored."""
    return hashlib.sha256(key.encode()).digest()


async def create_key(connection: Connection, new: NewKey) -> CreatedKey:
    """Create a key; it is shown in this answer only."""
    key = PREFIX + secrets.token_urlsafe(32)
    row = await sql.insert_key(
        connection,
        name=new.name,
        scope=new.scope,
        user_id=new.user_id,
        key_hash=key_hash(key),
        expires_at=new.expires_at,
    )
    return CreatedKey(**_record(row).model_dump(), key=key)


async def find_caller(connection: Connection, key: str) -> Caller:
    """Return the caller of a key. Raises Unauthorized when it is unknown or revoked."""
    row = await sql.caller(connection, key_hash=key_hash(key))
    if row is None:
        raise Unauthorized("the API key is unknown, revoked or expired", sent_key=True)
    if row["is_use_unknown"]:
        await sql.record_use(connection, key_id=row["key_id"])
    return Caller(row["key_id"], row["scope"], row["user_id"])


async def list_keys(connection: Connection) -> list[KeyRecord]:
    """Return every key's record, newest first."""
    return [_record(row) for row in await all_rows(sql.list_keys(connection))]


async def revoke_key(connection: Connection, key_id: UUID) -> bool:
    """Revoke a key; False when it does not exist or was already revoked."""
    return changed(await sql.revoke_key(connection, key_id=key_id))


def _record(row: asyncpg.Record) -> KeyRecord:
    return KeyRecord(id=row["key_id"], **{name: value for name, value in row.items() if name != "key_id"})
