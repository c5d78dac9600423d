"""Masks secrets in log lines, as the last step before a line is written."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from shared.settings import EnvironmentSettings

MASK: Final = "***"
MIN_LENGTH: Final = 8  # shorter secrets may be part of ordinary words; they are masked only in URLs
PATTERNS: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"vod_[A-Za-z0-9_-]{16,}", f"vod_{MASK}"),  # an API key
        (r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?", MASK),  # a JWT (RFC 7519)
        (
            r"(?<![0-9])[0-9]{9,12}-own[0-9a-f]{12}-[A-Za-z0-9_-]{22}",
            MASK,
        ),  # a grant, shared/playback/path_grants.py
        (r"(?i)\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{8,}", rf"\1\2{MASK}"),
        (r"://[^\s/\"'@]*@", f"://{MASK}@"),  # user and password of a URL
        (r"(?i)(signature|credential|security-token|access_token|password|secret)=[^&\s\"']+", rf"\1={MASK}"),
    )
)


def secrets_of(settings: EnvironmentSettings) -> frozenset[str]:
    """Return every secret of the configuration (also passwords in URLs), in each form that logs contain."""
    values = (value.get_secret_value() for _, value in settings if isinstance(value, SecretStr))
    forms = (form for value in values for form in _forms(_password(value)))
    return frozenset(form for form in forms if len(form) >= MIN_LENGTH)


def _password(value: str) -> str:
    if "://" not in value:
        return value
    try:
        return urlsplit(value).password or ""
    except ValueError:
        return ""


def _forms(secret: str) -> Iterable[str]:
    return {secret, unquote(secret), json.dumps(secret)[1:-1], json.dumps(unquote(secret))[1:-1]}


def redactor(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return a function that masks these secrets, and everything that looks like a secret, in a text."""
    exact = "|".join(map(re.escape, sorted(secrets, key=len, reverse=True)))
    known = re.compile(exact) if exact else None

    def redact(text: str) -> str:
        masked = known.sub(MASK, text) if known else text
        for pattern, replacement in PATTERNS:
            masked = pattern.sub(replacement, masked)
        return masked

    return redact
