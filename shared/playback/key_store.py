"""The keys that verify playback tokens: our own rotating keys, and public keys registered by platforms."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from shared.database.queries import all_rows
from shared.database.statements import playback_keys as sql
from shared.playback.models import PlaybackKey

if TYPE_CHECKING:
    from shared.database.pool import Connection
    from shared.playback.models import Algorithm

SECRET_BYTES = 32


async def all_keys(connection: Connection) -> list[PlaybackKey]:
    """Return the valid keys, newest first."""
    rows = await all_rows(sql.all_keys(connection))
    return [PlaybackKey(row["kid"], row["alg"], row["material"]) for row in rows]


async def has_private_videos(connection: Connection) -> bool:
    """Tell whether any video is private."""
    return bool(await sql.has_private_videos(connection))


async def signing_key(connection: Connection) -> PlaybackKey:
    """Return the current signing key: our newest one."""
    return next(key for key in await all_keys(connection) if key.is_ours)


async def register(connection: Connection, kid: str, alg: Algorithm, public_key: str) -> bool:
    """Add a platform's public key (PEM); False when the id is taken."""
    return str(await sql.register(connection, kid=kid, alg=alg, material=public_key)).endswith("1")


async def registered(connection: Connection) -> list[dict[str, Any]]:
    """Return the public keys of platforms, the newest first."""
    return [dict(row) for row in await all_rows(sql.list_registered(connection))]


async def remove(connection: Connection, kid: str) -> bool:
    """Remove a platform's key, which invalidates all tokens signed with it; False when there is none."""
    return str(await sql.remove(connection, kid=kid)).endswith("1")


async def rotate(connection: Connection, *, keep_seconds: float) -> str:
    """Create a new signing key and return its id; previous ones still verify for `keep_seconds`."""
    kid = f"own{secrets.token_hex(6)}"
    await sql.retire_own(connection, keep_seconds=keep_seconds)
    await sql.add_own(connection, kid=kid, material=secrets.token_hex(SECRET_BYTES))
    return kid
