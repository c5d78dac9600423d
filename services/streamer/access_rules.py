"""Decides what a request may access, from the video's record and the credentials; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import NotFound, TokenMissing, TokenNotForThis

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.streamer.availability import Availability
    from shared.playback.models import Viewer

NOT_THERE = "there is no such video"
HIDDEN = "there is no such public video: a private one needs a playback token in its path, /t/{token}/"


@dataclass(frozen=True)
class Credentials:
    """The credentials of a request: token or grant in the path, client address, origin of the page."""

    token: str | None = None
    grant: str | None = None
    address: str | None = None
    origin: str | None = None


WITHOUT = Credentials()


@dataclass(frozen=True)
class Access:
    """What a request may access: renditions up to `cap` (short side in pixels; None: all).

    `by_token`: the answer is for one viewer, and segment URLs in playlists contain a grant. `shared_until`:
    the request has a grant, and caches may keep the answer until then (seconds since 1970).
    """

    cap: int | None = None
    by_token: bool = False
    shared_until: int | None = None


PUBLIC = Access()


def public_access(known: Availability | None, *, hides_unknown: bool) -> Access:
    """Return the access of a request without a token. Raises TokenMissing, or NotFound for an unknown video.

    With `hides_unknown` an unknown video is answered like a private one, so that ids cannot be probed.
    """
    if known is None and not hides_unknown:
        raise NotFound(NOT_THERE)
    if known is None or known.video.visibility == "private":
        raise TokenMissing(HIDDEN)
    return PUBLIC


def token_access(viewer: Viewer, heights: Mapping[str, int], rendition: str | None) -> Access:
    """Return the access of a viewer whose token was checked. Raises TokenNotForThis above the token's cap."""
    cap = effective_cap(viewer.max_height, heights)
    check_height(cap, heights, rendition)
    return Access(cap, by_token=True)


def effective_cap(max_height: int | None, heights: Mapping[str, int]) -> int | None:
    """Return the largest short side that a token allows, None for all.

    Equal for tokens that allow the same renditions.
    """
    if max_height is None or not heights or max_height >= max(heights.values()):
        return None
    return max((height for height in heights.values() if height <= max_height), default=0)


def check_height(cap: int | None, heights: Mapping[str, int], rendition: str | None) -> None:
    """Raise TokenNotForThis for a rendition above the cap."""
    if cap is not None and rendition is not None and heights.get(rendition, cap + 1) > cap:
        raise TokenNotForThis(f"the playback token does not cover the rendition {rendition}")


def heights_of(known: Availability) -> dict[str, int]:
    """Return the short side in pixels of each rendition by name."""
    if known.video.renditions:
        return {item.name: min(item.width, item.height) for item in known.video.renditions}
    if known.presentation is None:
        return {}
    return {name: min(width, height) for name, width, height in known.presentation.renditions}
