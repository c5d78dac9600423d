"""Playlists as they are sent: compressed for players that accept it, with an ETag."""

from __future__ import annotations

import gzip
import hashlib
from functools import lru_cache

REMEMBERED = 256


class EncodedPlaylists:
    """Compresses and hashes playlists; remembers the results, for all players of a popular video."""

    def __init__(self) -> None:
        self._encode = lru_cache(maxsize=REMEMBERED)(_encode)

    def encode(self, body: bytes, *, zipped: bool) -> tuple[bytes, str]:
        """Return the body to send and its ETag."""
        return self._encode(body, zipped=zipped)


def _encode(body: bytes, *, zipped: bool) -> tuple[bytes, str]:
    digest = hashlib.sha256(body).hexdigest()[:32]
    if not zipped:
        return body, f'"{digest}"'
    return gzip.compress(body, compresslevel=6, mtime=0), f'"{digest}-gzip"'
