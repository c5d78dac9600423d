"""Where everything that S3 or the way to it can answer becomes StorageUnavailable, with what to check."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from aiohttp import ClientError as HttpClientError
from botocore.exceptions import BotoCoreError, ClientError

from shared.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = "check S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, and what they may do with the bucket"
HINTS = {
    "NoSuchBucket": "create the bucket or correct S3_BUCKET",
    "AccessDenied": KEYS,
    "Forbidden": KEYS,
    "403": KEYS,
    "InvalidAccessKeyId": KEYS,
    "SignatureDoesNotMatch": "check S3_SECRET_ACCESS_KEY, and S3_REGION",
    "AuthorizationHeaderMalformed": "check S3_REGION",
    "PermanentRedirect": "check S3_REGION and S3_ENDPOINT_URL",
    "301": "check S3_REGION and S3_ENDPOINT_URL",
    "RequestTimeTooSkewed": "set the clock of this machine",
    "NoCredentialsError": "set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY",
    "EndpointConnectionError": "check S3_ENDPOINT_URL, and that the server runs",
    "SSLError": "check S3_ENDPOINT_URL and its certificate",
}
MISSING = ("NoSuchKey", "NotFound", "404")


@contextmanager
def mapped(operation: str) -> Iterator[None]:
    """Raise StorageUnavailable, naming `operation` and the cause, for whatever S3 or the network raises.

    Only calls to S3 belong into the block: it would take a player's broken connection for one of S3.
    """
    try:
        yield
    except (ClientError, BotoCoreError, HttpClientError, TimeoutError, OSError) as error:
        raise StorageUnavailable(explain(operation, error)) from error


def explain(operation: str, error: Exception) -> str:
    """Say what failed, why, and what to check."""
    code = error_code(error)
    hint = HINTS.get(code)
    said = str(error) or type(error).__name__
    return f"S3 cannot {operation}: {said}" + (f" ({hint})" if hint else "")


def error_code(error: Exception) -> str:
    """Return the code that S3 answered, else the name of the exception."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "unknown"))
    return type(error).__name__


def http_status(error: ClientError) -> int:
    """Return the HTTP status of an answer; 0 when it is not known."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
