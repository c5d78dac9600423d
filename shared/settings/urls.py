"""Validates URLs in settings; pure."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator


def expect_url(url: str) -> None:
    """Raise ValueError for an unusable URL; the message does not contain the password."""
    address = url.partition("?")[0]
    try:
        if urlsplit(address).scheme and "," not in address:  # Postgres accepts several hosts
            urlsplit(address).port  # noqa: B018 - reading it validates it
    except ValueError:
        raise ValueError(
            "is not a URL: the port must be a number below 65536, and / ? # @ : in a password must be written"
            " as %2F %3F %23 %40 %3A"
        ) from None


def expect_scheme(url: str, *schemes: str) -> None:
    """Raise ValueError unless a URL has one of the schemes, and a host (optional for databases.

    Postgres may use a socket). The message does not contain the password.
    """
    expect_url(url)
    scheme, found, rest = url.partition("://")
    if not found or scheme.lower() not in schemes:
        given = f", not with {scheme[:20]}://" if found else ""
        raise ValueError(f"must begin with {' or '.join(f'{name}://' for name in schemes)}{given}")
    if "postgresql" not in schemes and not re.split(r"[/?#]", rest.rpartition("@")[2])[0]:
        raise ValueError("names no host")


def _check_http(url: str) -> str:
    if url:
        expect_scheme(url, "http", "https")
    return url


HttpUrl = Annotated[str, AfterValidator(_check_http)]
