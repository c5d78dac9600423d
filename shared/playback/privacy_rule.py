"""Whether private videos are possible with the configured storage, and what videos are that do not choose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import PrivateNotPossible

if TYPE_CHECKING:
    from shared.contracts.events import Visibility


@dataclass(frozen=True)
class PrivacyRule:
    """The visibility of videos that do not choose; with `s3_public_url` no video can be private."""

    default: Visibility
    s3_public_url: str

    def choose(self, visibility: Visibility | None) -> Visibility:
        """Return the visibility of a new video. Raises PrivateNotPossible."""
        self.check(visibility)
        return visibility or self.default

    def check(self, visibility: Visibility | None) -> None:
        """Raise PrivateNotPossible for a private video whose objects anyone could read."""
        if visibility == "private" and self.s3_public_url:
            raise PrivateNotPossible(
                "visibility: a private video is not possible here, because anyone can read the bucket under"
                " S3_PUBLIC_URL; use a bucket without public access and unset S3_PUBLIC_URL"
            )
