"""Maps errors of S3 and the network to errors of the pipeline, with a hint on what to check."""

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

KEYS: Final = "check S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, and their permissions on the bucket"
REGION: Final = "check S3_REGION"
QUOTA: Final = "raise the quota, or free space"
HINTS: Final = {
    "NoSuchBucket": "create the bucket or correct S3_BUCKET",
    "InvalidBucketName": "correct S3_BUCKET",
    "AccessDenied": KEYS,
    "Forbidden": KEYS,
    "Unauthorized": KEYS,
    "403": KEYS,
    "401": KEYS,
    "AllAccessDisabled": "the provider has blocked the account or the bucket: contact its support",
    "AccountProblem": "the provider has blocked the account: contact its support",
    "InvalidAccessKeyId": "check S3_ACCESS_KEY_ID",
    "XAdminUserNotFound": "check S3_ACCESS_KEY_ID",  # versitygw
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
    "EndpointConnectionError": "check S3_ENDPOINT_URL, and that the server is running",
    "SSLError": "check S3_ENDPOINT_URL and its certificate",
    "NotImplemented": "this server does not support the operation",
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
FULL_IN_WORDS: Final = ("cap exceeded", "no space left", "quota exceeded")  # under a general error code
# Codes of 4xx answers that a retry may fix.
TRANSIENT: Final = (
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
TRANSIENT_STATUSES: Final = (0, 408, 409, 425, 429)
UNSUPPORTED: Final = 501
REFUSED: Final = (NoCredentialsError, PartialCredentialsError, ParamValidationError)


@contextmanager
def mapped(operation: str) -> Iterator[None]:
    """Raise StorageUnavailable or a subclass for errors of S3 or the network, naming `operation`.

    The block must contain calls to S3 only: a player's broken connection would be mapped as well.
    """
    try:
        yield
    except (ClientError, BotoCoreError, HttpClientError, TimeoutError, OSError) as error:
        raise classified(error)(explain(operation, error)) from error


def classified(error: Exception) -> type[StorageUnavailable]:
    """Return the class of an error: StorageUnavailable itself if a retry may help."""
    if isinstance(error, ClientError):
        return _of_answer(error)
    if isinstance(error, REFUSED) or "CERTIFICATE_VERIFY_FAILED" in str(error):
        return StorageRefused
    return StorageUnavailable


def _of_answer(error: ClientError) -> type[StorageUnavailable]:
    code, status, said = error_code(error), http_status(error), str(error).lower()
    if code in FULL or status == 507 or any(words in said for words in FULL_IN_WORDS):
        return StorageFull
    if code in TRANSIENT or status in TRANSIENT_STATUSES or (status >= 500 and status != UNSUPPORTED):
        return StorageUnavailable
    return StorageRefused


def explain(operation: str, error: Exception) -> str:
    """Return a message: what failed, why, and what to check."""
    hint = _hint(error)
    said = str(error) or type(error).__name__
    return f"S3 cannot {operation}: {said}" + (f" ({hint})" if hint else "")


def _hint(error: Exception) -> str | None:
    region = true_region(error) if isinstance(error, ClientError) else None
    if region:
        return f"the bucket is in the region {region}: set S3_REGION={region}"
    return QUOTA if classified(error) is StorageFull else HINTS.get(error_code(error))


def true_region(error: ClientError) -> str | None:
    """Return the region named by a server that received a request for another region."""
    if error_code(error) not in ("AuthorizationHeaderMalformed", "PermanentRedirect", "301", "400"):
        return None
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    named = headers.get("x-amz-bucket-region") or error.response.get("Error", {}).get("Region")
    return str(named) if named else None


def error_code(error: Exception) -> str:
    """Return S3's error code, else the name of the exception."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "unknown"))
    return type(error).__name__


def has_no_code(error: ClientError) -> bool:
    """Tell whether an error answer had no error code, like answers to HEAD."""
    return error_code(error).isdecimal() or error_code(error) in ("unknown", "NotFound", "Forbidden")


def http_status(error: ClientError) -> int:
    """Return the HTTP status of an answer; 0 when unknown."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
