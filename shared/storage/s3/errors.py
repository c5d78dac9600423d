"""Where everything that S3 or the way to it can answer becomes an error of ours, with what to check."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import ClientError as HttpClientError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from shared.errors import StorageFull, StorageRefused, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS: Final = "check S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, and what they may do with the bucket"
REGION: Final = "check S3_REGION"
QUOTA: Final = "raise the quota, or make room"
HINTS: Final = {
    "NoSuchBucket": "create the bucket or correct S3_BUCKET",
    "InvalidBucketName": "correct S3_BUCKET",
    "AccessDenied": KEYS,
    "Forbidden": KEYS,
    "Unauthorized": KEYS,
    "403": KEYS,
    "401": KEYS,
    "AllAccessDisabled": "the provider has blocked the account or the bucket: ask it",
    "AccountProblem": "the provider has blocked the account: ask it",
    "InvalidAccessKeyId": "check S3_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "check S3_SECRET_ACCESS_KEY, and S3_REGION",
    "AuthorizationHeaderMalformed": REGION,
    "AuthorizationQueryParametersError": REGION,
    "IllegalLocationConstraintException": REGION,
    "PermanentRedirect": "check S3_REGION and S3_ENDPOINT_URL",
    "301": "check S3_REGION and S3_ENDPOINT_URL",
    "RequestTimeTooSkewed": "set the clock of this machine",
    "ExpiredToken": "the temporary credentials have expired: renew S3_SESSION_TOKEN and its keys",
    "InvalidToken": "check S3_SESSION_TOKEN",
    "NoCredentialsError": "set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY",
    "PartialCredentialsError": "set both S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY",
    "EndpointConnectionError": "check S3_ENDPOINT_URL, and that the server runs",
    "SSLError": "check S3_ENDPOINT_URL and its certificate",
    "NotImplemented": "this server lacks the operation",
}
MISSING: Final = ("NoSuchKey", "NotFound", "404")
FULL: Final = (
    "507",
    "InsufficientStorage",
    "QuotaExceeded",
    "StorageQuotaExceeded",
    "XMinioAdminBucketQuotaExceeded",
    "XMinioStorageFull",
)
FULL_IN_WORDS: Final = ("cap exceeded", "no space left", "quota exceeded")  # said under a general code
# What a server answers with 4xx although nothing is wrong with the request, or not the next time.
PASSING: Final = (
    "BadDigest",
    "IncompleteBody",
    "InternalError",
    "InvalidPart",
    "NoSuchUpload",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "TooManyRequests",
    "XAmzContentSHA256Mismatch",
    *MISSING,
)
PASSING_STATUSES: Final = (0, 408, 409, 425, 429)
UNSUPPORTED: Final = 501
REFUSED: Final = (NoCredentialsError, PartialCredentialsError, ParamValidationError)


@contextmanager
def mapped(operation: str) -> Iterator[None]:
    """Raise StorageUnavailable, or a subclass, for what S3 or the network raises; it names `operation`.

    Only calls to S3 belong into the block: it would take a player's broken connection for one of S3.
    """
    try:
        yield
    except (ClientError, BotoCoreError, HttpClientError, TimeoutError, OSError) as error:
        raise classified(error)(explain(operation, error)) from error


def classified(error: Exception) -> type[StorageUnavailable]:
    """Return the class of an error: StorageUnavailable itself where waiting helps."""
    if isinstance(error, ClientError):
        return _of_answer(error)
    if isinstance(error, REFUSED) or "CERTIFICATE_VERIFY_FAILED" in str(error):
        return StorageRefused
    return StorageUnavailable


def _of_answer(error: ClientError) -> type[StorageUnavailable]:
    code, status, said = error_code(error), http_status(error), str(error).lower()
    if code in FULL or status == 507 or any(words in said for words in FULL_IN_WORDS):
        return StorageFull
    if code in PASSING or status in PASSING_STATUSES or (status >= 500 and status != UNSUPPORTED):
        return StorageUnavailable
    return StorageRefused


def explain(operation: str, error: Exception) -> str:
    """Say what failed, why, and what to check."""
    hint = _hint(error)
    said = str(error) or type(error).__name__
    return f"S3 cannot {operation}: {said}" + (f" ({hint})" if hint else "")


def _hint(error: Exception) -> str | None:
    region = true_region(error) if isinstance(error, ClientError) else None
    if region:
        return f"the bucket lies in the region {region}: set S3_REGION={region}"
    return QUOTA if classified(error) is StorageFull else HINTS.get(error_code(error))


def true_region(error: ClientError) -> str | None:
    """Return the region that a server names when it was asked in another one."""
    if error_code(error) not in ("AuthorizationHeaderMalformed", "PermanentRedirect", "301", "400"):
        return None
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    named = headers.get("x-amz-bucket-region") or error.response.get("Error", {}).get("Region")
    return str(named) if named else None


def error_code(error: Exception) -> str:
    """Return the code that S3 answered, else the name of the exception."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "unknown"))
    return type(error).__name__


def has_no_code(error: ClientError) -> bool:
    """Tell whether an answer had no body to name its fault in, as answers to HEAD have none."""
    return error_code(error).isdecimal() or error_code(error) in ("unknown", "NotFound", "Forbidden")


def http_status(error: ClientError) -> int:
    """Return the HTTP status of an answer; 0 when it is not known."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
