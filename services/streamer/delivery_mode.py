"""How the bytes of a video reach players: its delivery mode, and the URLs of its segments; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from shared.contracts.events import Delivery
    from shared.videos import Video

BUCKET_SECONDS = 3600
MIN_SECONDS = 6 * 3600


def delivery_of(video: Video, default: Delivery | None, kind: Literal["local", "s3"]) -> Delivery:
    """Return the delivery mode: the video's, else the configured one; local storage is always proxied.

    A private video is never sent to public storage: it is signed instead of redirected.
    """
    wanted = video.delivery or default or "proxy"
    if kind == "local":
        return "proxy"
    if wanted == "redirect" and video.visibility == "private":
        return "signed"
    return wanted


def signing_window(now: float, duration_seconds: float) -> tuple[int, int]:
    """Return the signing time of this hour's presigned URLs, and how long they are valid (seconds).

    All viewers within an hour get the same URLs, valid from now for at least twice the video's length and at
    least 6 hours.
    """
    start = int(now) // BUCKET_SECONDS * BUCKET_SECONDS
    return start, BUCKET_SECONDS + max(int(2 * duration_seconds) + 1, MIN_SECONDS)
