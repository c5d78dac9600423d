"""Viewer tokens: JSON Web Tokens (RFC 7519), sent as a path segment.

The algorithm is that of the key named by `kid`, and is never read from the token (RFC 8725, section 3.1).
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any
from uuid import UUID

import jwt

from shared.errors import TokenExpired, TokenInvalid, TokenNotForThis
from shared.playback.models import AUDIENCE, Viewer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv4Network, IPv6Network

    from shared.playback.models import PlaybackKey

MAX_CHARACTERS = 4096
MAX_TIME = 10**11  # seconds since 1970: the year 5138
MAX_ENTRIES = 64  # of origins, and of networks
REQUIRED = ("exp", "sub", "aud")
IPV6_SUBSCRIBER_BITS = 64  # a customer has a /64, within which a phone changes its address often


def sign(viewer: Viewer, key: PlaybackKey) -> str:
    """Return a viewer's token, signed with one of our keys."""
    claims: dict[str, Any] = {
        "sub": str(viewer.video_id),
        "aud": AUDIENCE,
        "exp": viewer.expires_at,
        "gen": viewer.generation,
    }
    if viewer.not_before:
        claims["nbf"] = viewer.not_before
    if viewer.max_height is not None:
        claims["maxHeight"] = viewer.max_height
    if viewer.origins:
        claims["origins"] = list(viewer.origins)
    if viewer.networks:
        claims["ip"] = [str(network) for network in viewer.networks]
    return jwt.encode(claims, key.material, algorithm=key.alg, headers={"kid": key.kid})


def read_kid(token: str) -> str:
    """Return the key id in a token, without verifying it. Raises TokenInvalid."""
    if len(token) > MAX_CHARACTERS:
        raise TokenInvalid(f"the playback token is longer than {MAX_CHARACTERS} characters")
    try:
        kid = jwt.get_unverified_header(token).get("kid")
    except (jwt.PyJWTError, ValueError) as error:
        raise TokenInvalid("the playback token is malformed") from error
    if not isinstance(kid, str):
        raise TokenInvalid("the playback token names no key: its header needs a kid")
    return kid


def read(token: str, keys: Mapping[str, PlaybackKey]) -> Viewer:
    """Return the viewer named by a token with a valid signature; its times are not checked yet.

    Raises TokenInvalid for a token that is malformed, not signed with one of `keys`, or lacks a claim.
    """
    kid = read_kid(token)
    if (key := keys.get(kid)) is None:
        raise TokenInvalid("the playback token is signed with an unknown key")
    options: Any = {"require": list(REQUIRED), "verify_exp": False, "verify_nbf": False, "verify_iat": False}
    try:
        claims = jwt.decode(token, key.material, algorithms=[key.alg], audience=AUDIENCE, options=options)
        return _viewer(claims, kid)
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
        raise TokenInvalid("the playback token is not valid") from error


def check(viewer: Viewer, *, now: float, video_id: UUID, generation: int) -> None:
    """Raise TokenExpired or TokenNotForThis unless the token is valid for a video now."""
    if now >= viewer.expires_at:
        raise TokenExpired("the playback token has expired: request a new one")
    if now < viewer.not_before:
        raise TokenInvalid("the playback token is not valid yet")
    if viewer.video_id != video_id:
        raise TokenNotForThis("the playback token is for another video")
    if viewer.generation != generation:
        raise TokenExpired("the playback tokens of this video were revoked: request a new one")


def check_place(viewer: Viewer, *, address: str | None, origin: str | None, own_origin: str) -> None:
    """Raise TokenNotForThis if the token does not allow the client's address or the page's origin."""
    if viewer.networks and not (address and any(ip_address(address) in net for net in viewer.networks)):
        raise TokenNotForThis("the playback token is not for this address")
    if viewer.origins and origin not in {None, own_origin, *viewer.origins}:
        raise TokenNotForThis("the playback token is not for pages of this origin")


def read_network(text: str) -> IPv4Network | IPv6Network:
    """Return an address or a range as a network, an IPv6 address as its /64. Raises ValueError."""
    network = ip_network(text, strict=False)
    if network.version == 6 and "/" not in text:
        return ip_network(f"{text}/{IPV6_SUBSCRIBER_BITS}", strict=False)
    return network


def _viewer(claims: Mapping[str, Any], kid: str) -> Viewer:
    cap, expires_at = claims.get("maxHeight"), int(claims["exp"])
    if not 0 < expires_at < MAX_TIME:
        raise ValueError("exp is not a time")
    return Viewer(
        video_id=UUID(claims["sub"]),
        kid=kid,
        expires_at=expires_at,
        not_before=int(claims.get("nbf", 0)),
        generation=int(claims.get("gen", 0)),
        max_height=None if cap is None else int(cap),
        origins=tuple(_texts(claims, "origins")),
        networks=tuple(read_network(text) for text in _texts(claims, "ip")),
    )


def _texts(claims: Mapping[str, Any], name: str) -> list[str]:
    values = claims.get(name, [])
    values = [values] if isinstance(values, str) else values
    if (
        not isinstance(values, list)
        or len(values) > MAX_ENTRIES
        or not all(isinstance(v, str) for v in values)
    ):
        raise ValueError(f"{name} is not a list of at most {MAX_ENTRIES} texts")
    return values
