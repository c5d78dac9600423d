"""Assigns S3 errors to checks, with advice; pure."""

from __future__ import annotations

import ssl
from typing import Final

from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    SSLError,
)

from shared.storage.s3.errors import KEYS, error_code, http_status, true_region

CHECK_OF_CODE: Final = {
    "InvalidAccessKeyId": "credentials",
    "XAdminUserNotFound": "credentials",  # versitygw
    "SignatureDoesNotMatch": "credentials",
    "ExpiredToken": "credentials",
    "InvalidToken": "credentials",
    "TokenRefreshRequired": "credentials",
    "AuthorizationHeaderMalformed": "region",
    "AuthorizationQueryParametersError": "region",
    "PermanentRedirect": "region",
    "IllegalLocationConstraintException": "region",
    "301": "region",
    "NoSuchBucket": "bucket",
    "InvalidBucketName": "bucket",
    "RequestTimeTooSkewed": "clock",
    "QuotaExceeded": "quota",
    "XMinioStorageFull": "quota",
    "507": "quota",
    "InsufficientStorage": "quota",
}
ADVICE: Final = {
    "reach": "check S3_ENDPOINT_URL, name resolution and firewalls, and that the server runs",
    "tls": "check S3_ENDPOINT_URL and the server's certificate; SSL_CERT_FILE adds a private authority",
    "credentials": "check S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, and S3_SESSION_TOKEN if there is one",
    "region": "set S3_REGION to the region of the bucket",
    "bucket": "create the bucket, or correct S3_BUCKET",
    "clock": "set the clock of this machine, with NTP for example",
    "quota": "raise the quota, or make room",
    "overload": "the server is overloaded or limits requests: try again, or ask for higher limits",
}


def check_of(error: BaseException, during: str) -> str:
    """Return the check that an error belongs to; `during` if the error is not specific."""
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return "credentials"
    if isinstance(error, SSLError | ssl.SSLError):
        return "tls"
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError | ReadTimeoutError | HTTPClientError):
        return "reach"
    if isinstance(error, ClientError):
        code = error_code(error)
        if http_status(error) in (429, 503) or code == "SlowDown":
            return "overload"
        return CHECK_OF_CODE.get(code, during)
    return "reach" if isinstance(error, OSError | TimeoutError) else during


def advice_for(check: str, error: BaseException, right: str = "") -> str:
    """Return advice for an error; `right` is the permission needed for the failed operation."""
    region = true_region(error) if isinstance(error, ClientError) else None
    if region:
        return f"set S3_REGION={region}"
    if check in ADVICE:
        return ADVICE[check]
    if isinstance(error, ClientError) and http_status(error) in (401, 403):
        return f"grant {right} to the credentials, or check the bucket policy" if right else KEYS
    if isinstance(error, ClientError) and http_status(error) in (405, 501):
        return "the server does not support this operation: use one that does"
    return ""


def said(error: BaseException) -> str:
    """Return an error in one line."""
    return (str(error) or type(error).__name__).split("\n", 1)[0]
