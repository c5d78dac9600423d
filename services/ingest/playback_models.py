"""API models of playback: tokens, and the keys of platforms."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from services.ingest.models import Request
from shared.contracts.model import Model
from shared.playback.check_public_key import public_key_fault
from shared.playback.tokens import MAX_ENTRIES, read_network


def _origin(value: str) -> str:
    if not re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+", value):
        raise PydanticCustomError("origin", "must be an origin such as https://example.com")
    return value.lower()


def _network(value: str) -> str:
    try:
        return str(read_network(value))
    except ValueError:
        raise PydanticCustomError("network", "must be an address or a range such as 203.0.113.0/24") from None


Origin = Annotated[str, AfterValidator(_origin)]
Network = Annotated[str, AfterValidator(_network)]


class TokenRequest(Request):
    """Who may watch a video, and for how long; `maxHeight` limits the short side of renditions in pixels."""

    ttl_seconds: Annotated[int, Field(ge=1, le=7 * 86400)] = 3600
    max_height: Annotated[int, Field(ge=16, le=8192)] | None = None
    origins: Annotated[tuple[Origin, ...], Field(max_length=MAX_ENTRIES)] = ()
    ip: Annotated[tuple[Network, ...], Field(max_length=MAX_ENTRIES)] = ()


class PlaybackToken(Model):
    """A playback token and the URLs that carry it."""

    token: str
    expires_at: datetime
    playlist_url: str
    player_url: str


class TokensRevoked(Model):
    """All tokens of a video are revoked; new ones carry this number as `gen`."""

    generation: int


class NewPlaybackKey(Request):
    """A public key (PEM) for playback tokens signed by a platform; tokens refer to it by `kid`."""

    kid: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,64}$")]
    alg: Literal["EdDSA", "RS256"]
    public_key: Annotated[str, Field(max_length=8192)]

    @model_validator(mode="after")
    def _key_goes_with_alg(self) -> Self:
        if (fault := public_key_fault(self.alg, self.public_key)) is not None:
            raise PydanticCustomError("key", "publicKey: {fault}", {"fault": fault})
        return self


class PlaybackKeyRecord(Model):
    """A registered public key."""

    kid: str
    alg: Literal["EdDSA", "RS256"]
    public_key: str
    created_at: datetime


class PlaybackKeyList(Model):
    """The registered public keys, newest first."""

    keys: list[PlaybackKeyRecord]
