"""The check whether private videos are possible with the configured storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import PrivateNotPossible

if TYPE_CHECKING:
    from shared.contracts.events import Visibility


def check_visibility(visibility: Visibility | None, s3_public_url: str) -> None:
    """Raise PrivateNotPossible for a private video whose objects anyone could read at S3_PUBLIC_URL."""
    if visibility == "private" and s3_public_url:
        raise PrivateNotPossible(
            "visibility: a private video is not possible here, because anyone can read the bucket under"
            " S3_PUBLIC_URL; use a bucket without public access and unset S3_PUBLIC_URL"
        )
