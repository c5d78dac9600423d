"""The player page of a video: its HTML, the state that it asks for, and the files that it loads."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.artifacts import THUMBNAIL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.streamer.availability import Availability

FOLDER = Path(__file__).with_name("player")
LIBRARIES = FOLDER / "node_modules"
FILES = {
    "player.js": FOLDER / "player.js",
    "viewing.js": FOLDER / "viewing.js",
    "player.css": FOLDER / "player.css",
    "hls.min.js": LIBRARIES / "hls.js/dist/hls.min.js",
    "hls.worker.js": LIBRARIES / "hls.js/dist/hls.worker.js",
    "media-chrome.js": LIBRARIES / "media-chrome/dist/iife/all.js",
}
PLACE = re.compile(r"\{([a-z_]+)\}")
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css"}


@dataclass(frozen=True)
class Player:
    """The template of the page, and its files by name; `version` is part of the URLs of the files."""

    template: str
    files: Mapping[str, bytes]
    version: str

    @property
    def missing(self) -> list[str]:
        """Return the files that are not installed: without them only Safari plays."""
        return [name for name in FILES if name not in self.files]


def load_player() -> Player:
    """Read the page and its files; `make player` installs the libraries among them."""
    files = {name: path.read_bytes() for name, path in FILES.items() if path.is_file()}
    template = (FOLDER / "page.html").read_text()
    digest = hashlib.sha256(template.encode())
    for name in sorted(files):
        digest.update(files[name])
    return Player(template, files, digest.hexdigest()[:16])


@dataclass(frozen=True)
class Words:
    """What a page shows before its script has requested the state of the video."""

    headline: str
    detail: str


@dataclass(frozen=True)
class Addresses:
    """Where the page finds its video (`base`.

    /{videoId}, or /{videoId}/t/{token}), and where it sends reports. `token_url`: where it renews its token;
    empty: it asks the embedding page.
    """

    base: str
    token_url: str
    reports: bool

    def values(self) -> dict[str, str]:
        """Return the values for the template."""
        return {
            "stream": f"/api/stream{self.base}",
            "state": f"/watch{self.base}/state",
            "viewing": f"/watch{self.base}/viewing" if self.reports else "",
            "token_url": self.token_url,
        }


def render(player: Player, addresses: Addresses, known: Availability | None, words: Words) -> str:
    """Return the page; `known` is None for refused viewers."""
    poster = f"/api/stream{addresses.base}/{THUMBNAIL.object_name}" if known and known.video.was_ready else ""
    values = addresses.values() | {
        "title": (known.video.title if known else None) or "Video",
        "assets": f"/watch/assets/{player.version}",
        "status": known.video.status if known else "forbidden",
        "headline": words.headline,
        "detail": words.detail,
        "poster": poster,
    }
    return PLACE.sub(lambda place: escape(values[place[1]]), player.template)


def state(known: Availability) -> dict[str, Any]:
    """Return the state that the page polls until the video plays."""
    video = known.video
    return {
        "title": video.title,
        "status": video.status,
        "playable": video.was_ready or bool(known.segments),
        "progress": video.progress,
    }


def content_security_policy(
    frame_ancestors: Sequence[str], storage_origins: Sequence[str], token_origins: Sequence[str] = ()
) -> str:
    """Return the page's Content-Security-Policy.

    Scripts from here, media from here and storage, embedding as allowed. `token_origins`: where it may
    request a new token.
    """
    elsewhere = " ".join(("'self'", *storage_origins))
    rules = {
        "default-src": "'none'",
        "script-src": "'self'",
        "worker-src": "'self'",
        "style-src": "'self' 'unsafe-inline'",  # media-chrome uses inline styles
        "img-src": f"{elsewhere} data:",
        "media-src": f"{elsewhere} blob:",
        "connect-src": " ".join((elsewhere, *token_origins)),
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": " ".join(frame_ancestors),
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())
