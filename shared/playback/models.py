"""Values of playback credentials: keys and viewers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network
    from uuid import UUID

Algorithm = Literal["HS256", "EdDSA", "RS256"]

AUDIENCE = "playback"


@dataclass(frozen=True)
class PlaybackKey:
    """A key that verifies tokens. HS256 keys are our own; they also sign tokens and grants.

    `material` is the secret itself (HS256) or a public key in PEM (EdDSA, RS256).
    """

    kid: str
    alg: Algorithm
    material: str

    @property
    def is_ours(self) -> bool:
        return self.alg == "HS256"


@dataclass(frozen=True)
class Viewer:
    """The claims of a verified token: who may watch one video.

    If `generation` is not the video's, the token has been revoked. `max_height` limits the short side of
    renditions in pixels (None: no limit); empty `origins` or `networks` allow any.
    """

    video_id: UUID
    kid: str
    expires_at: int
    generation: int = 0
    not_before: int = 0
    max_height: int | None = None
    origins: tuple[str, ...] = ()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
