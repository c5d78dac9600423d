"""The player page of a video: its HTML, the state that it asks for, and the files that it loads."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.streamer.availability import Availability

FOLDER = Path(__file__).with_name("player")
LIBRARIES = FOLDER / "node_modules"
FILES = {
    "player.js": FOLDER / "player.js",
    "player.css": FOLDER / "player.css",
    "hls.min.js": LIBRARIES / "hls.js/dist/hls.min.js",
    "hls.worker.js": LIBRARIES / "hls.js/dist/hls.worker.js",
    "media-chrome.js": LIBRARIES / "media-chrome/dist/iife/all.js",
}
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css"}


@dataclass(frozen=True)
class Player:
    """The template of the page, and its files by name; `version` is part of the URLs of the files."""

    template: str
    files: Mapping[str, bytes]
    version: str

    @property
    def missing(self) -> list[str]:
        """Name the files that were not installed: without them only Safari plays."""
        return [name for name in FILES if name not in self.files]


def load_player() -> Player:
    """Read the page and its files; `make player` installs the libraries among them."""
    files = {name: path.read_bytes() for name, path in FILES.items() if path.is_file()}
    template = (FOLDER / "page.html").read_text()
    digest = hashlib.sha256(template.encode())
    for name in sorted(files):
        digest.update(files[name])
    return Player(template, files, digest.hexdigest()[:16])


def render(player: Player, base: str, known: Availability | None, headline: str, detail: str) -> str:
    """Return the page; `base` is /{videoId} or /{videoId}/t/{token}; `known` is None for refused viewers."""
    title = (known.video.title if known else None) or "Video"
    poster = f' poster="/api/stream{base}/thumbnail.jpg"' if known and known.video.was_ready else ""
    values = {
        "title": escape(title),
        "assets": f"/watch/assets/{player.version}",
        "stream": escape(f"/api/stream{base}"),
        "state": escape(f"/watch{base}/state"),
        "status": escape(known.video.status if known else "forbidden"),
        "poster": poster,
        "headline": escape(headline),
        "detail": escape(detail),
    }
    page = player.template
    for name, value in values.items():
        page = page.replace(f"{{{name}}}", value)
    return page


def state(known: Availability) -> dict[str, Any]:
    """Return what the page asks for every few seconds until the video plays."""
    video = known.video
    return {
        "title": video.title,
        "status": video.status,
        "playable": video.was_ready or bool(known.segments),
        "progress": video.progress,
    }


def content_security_policy(frame_ancestors: Sequence[str], storage_origins: Sequence[str]) -> str:
    """Return the policy of the page: scripts from here, media from here and storage, embedded as allowed."""
    elsewhere = " ".join(("'self'", *storage_origins))
    rules = {
        "default-src": "'none'",
        "script-src": "'self'",
        "worker-src": "'self'",
        "style-src": "'self' 'unsafe-inline'",  # media-chrome styles its elements inline
        "img-src": f"{elsewhere} data:",
        "media-src": f"{elsewhere} blob:",
        "connect-src": elsewhere,
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": " ".join(frame_ancestors),
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())
