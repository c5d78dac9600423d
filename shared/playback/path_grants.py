"""Grants: path components that give all viewers within an hour one URL per segment, for shared caches.

A grant is `{exp}-{kid}-{mac}`; the MAC (HMAC-SHA256, 16 bytes, base64url) covers a version, the video, the
generation of its tokens, the time of expiry and the cap by height. `exp` is rounded up to a bucket, so that
it is equal for all viewers in that time.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from shared.errors import TokenExpired, TokenInvalid, TokenNotForThis

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from uuid import UUID

    from shared.playback.models import PlaybackKey

VERSION = 1
BUCKET_SECONDS = 3600
MIN_SECONDS = 6 * 3600
MAC_BYTES = 16
PATTERN = r"[0-9]{1,12}-[A-Za-z0-9_]{1,64}-[A-Za-z0-9_-]{22}"


@dataclass(frozen=True)
class Scope:
    """The scope of a grant: a video and its token generation (raised to revoke all tokens)."""

    video_id: UUID
    generation: int


@dataclass(frozen=True)
class Grant:
    """A grant as it appears in a path, and its expiry (seconds since 1970)."""

    text: str
    expires_at: int


def expiry(now: float, duration_seconds: float) -> int:
    """Return the expiry of a grant made now.

    At least twice the video's length ahead, and equal within a bucket.
    """
    return ceil((now + max(2 * duration_seconds, MIN_SECONDS)) / BUCKET_SECONDS) * BUCKET_SECONDS


def issue(scope: Scope, cap: int | None, key: PlaybackKey, *, now: float, duration_seconds: float) -> Grant:
    """Return the grant for the renditions of a video up to `cap` (short side in pixels; None: all)."""
    ends = expiry(now, duration_seconds)
    return Grant(f"{ends}-{key.kid}-{_mac(scope, ends, cap, key)}", ends)


def check(
    grant: str,
    scope: Scope,
    height: int,
    caps: Collection[int],
    keys: Mapping[str, PlaybackKey],
    *,
    now: float,
) -> int:
    """Return when the grant ends (seconds since 1970) if it covers a rendition of `height` (short side).

    `caps` are the short sides of the video's renditions. Raises TokenInvalid, TokenExpired, TokenNotForThis.
    """
    ends, kid, mac = grant.split("-", 2)
    key = keys.get(kid)
    if key is None or not key.is_ours:
        raise TokenInvalid("the grant is signed with an unknown key")
    covering = [cap for cap in (None, *caps) if hmac.compare_digest(_mac(scope, int(ends), cap, key), mac)]
    if not covering:
        raise TokenInvalid("the grant is not valid for this video")
    if now >= int(ends):
        raise TokenExpired("the grant has expired: load the playlist again")
    if covering[0] is not None and height > covering[0]:
        raise TokenNotForThis("the grant does not cover this rendition")
    return int(ends)


def _mac(scope: Scope, ends: int, cap: int | None, key: PlaybackKey) -> str:
    message = f"{VERSION}|{scope.video_id}|{scope.generation}|{ends}|{'' if cap is None else cap}".encode()
    digest = hmac.new(key.material.encode(), message, hashlib.sha256).digest()[:MAC_BYTES]
    return urlsafe_b64encode(digest).rstrip(b"=").decode()
