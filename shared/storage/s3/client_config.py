"""Configuration of the S3 clients, and public URLs of buckets."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError

from shared.errors import StorageRefused
from shared.storage.s3 import handlers
from shared.storage.s3.http_session import BoundedSession
from shared.storage.s3.sigv4 import Credentials, Signer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from aiobotocore.session import AioSession
    from types_aiobotocore_s3 import S3Client

    from shared.settings import StorageSettings

R2_HOSTS = ".r2.cloudflarestorage.com"
CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
ATTEMPTS = 3


def client_config(
    settings: StorageSettings, *, connections: int, attempts: int, read_seconds: float
) -> AioConfig:
    """Return a configuration that AWS and S3-compatible servers all accept."""
    is_guarded_by_tls = urlsplit(settings.s3_endpoint_url).scheme != "http"
    return AioConfig(
        region_name=settings.s3_region,
        signature_version="s3v4",  # by default URLs are presigned with version 2
        # R2, older MinIO and Garage refuse the CRC checksums that botocore sends by default.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={
            "addressing_style": settings.s3_addressing_style or "auto",
            "payload_signing_enabled": not is_guarded_by_tls,  # hashing bodies costs CPU
        },
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=read_seconds,
        max_pool_connections=connections,
        tcp_keepalive=True,
        http_session_cls=BoundedSession,
    )


@asynccontextmanager
async def open_client(
    session: AioSession,
    settings: StorageSettings,
    endpoint_url: str,
    config: AioConfig,
    *,
    attempts: int = ATTEMPTS,
) -> AsyncIterator[S3Client]:
    """Yield a client of the S3 server at `endpoint_url` (AWS when empty); connects on the first call.

    Without S3_ACCESS_KEY_ID the credentials that AWS provides to the machine or pod are used.
    Raises StorageRefused when the configuration is invalid.
    """
    client = session.create_client(
        "s3",
        endpoint_url=endpoint_url or None,
        aws_access_key_id=settings.s3_access_key_id or None,
        aws_secret_access_key=settings.s3_secret_access_key.get_secret_value() or None,
        aws_session_token=settings.s3_session_token.get_secret_value() or None,
        config=config,
    )
    async with AsyncExitStack() as stack:
        try:
            opened = await stack.enter_async_context(client)
        except (ValueError, BotoCoreError) as error:
            raise StorageRefused(f"the S3 configuration is invalid: {error}") from error
        credentials = await session.get_credentials() if not settings.s3_access_key_id else None
        handlers.register(opened, credentials, attempts=attempts, is_aws=not endpoint_url)
        yield opened


def encryption(settings: StorageSettings) -> dict[str, str]:
    """Return the request parameters that make the server encrypt every object."""
    named = {"ServerSideEncryption": settings.s3_sse, "SSEKMSKeyId": settings.s3_sse_kms_key_id}
    return {name: value for name, value in named.items() if value}


def encryption_headers(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the same as headers."""
    names = {
        "ServerSideEncryption": "x-amz-server-side-encryption",
        "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    }
    return {names[name]: value for name, value in parameters.items()}


def signer(session: AioSession, settings: StorageSettings, *, for_players: bool = True) -> Signer:
    """Return a signer of URLs, for players or for ourselves, with the client's credentials."""

    async def credentials() -> Credentials:
        if settings.s3_access_key_id:
            token = settings.s3_session_token.get_secret_value() or None
            return Credentials(
                settings.s3_access_key_id, settings.s3_secret_access_key.get_secret_value(), token
            )
        found = await session.get_credentials()
        if found is None:
            raise StorageRefused("there are no credentials to sign URLs with: set S3_ACCESS_KEY_ID")
        frozen = await found.get_frozen_credentials()
        expiry = vars(found).get("_expiry_time")  # of a role's credentials; they have no public name
        expires_at = expiry.timestamp() if expiry else None
        return Credentials(str(frozen.access_key), str(frozen.secret_key), frozen.token, expires_at)

    for_us = settings.s3_endpoint_url
    endpoint = (settings.s3_presign_endpoint_url or for_us) if for_players else for_us
    return Signer(bucket_url(settings, endpoint), settings.s3_region, credentials)


def public_base_url(settings: StorageSettings) -> str | None:
    """Return the public base URL of the bucket's keys, without a trailing slash.

    None if there is none: R2's S3 endpoint serves only signed requests.
    """
    if settings.s3_public_url:
        return settings.s3_public_url.rstrip("/")
    endpoint = settings.s3_endpoint_url.rstrip("/")
    if settings.s3_provider == "r2" or str(urlsplit(endpoint).hostname).endswith(R2_HOSTS):
        return None
    return bucket_url(settings, endpoint)


def bucket_url(settings: StorageSettings, endpoint: str) -> str:
    """Return the URL of the bucket at an endpoint (AWS when empty), without a trailing slash."""
    endpoint = endpoint.rstrip("/")
    if not endpoint:
        return _aws_url(settings)
    if settings.s3_addressing_style == "virtual":
        scheme, _, host = endpoint.partition("://")
        return f"{scheme}://{settings.s3_bucket}.{host}"
    return f"{endpoint}/{settings.s3_bucket}"


def _aws_url(settings: StorageSettings) -> str:
    domain = "amazonaws.com.cn" if settings.s3_region.startswith("cn-") else "amazonaws.com"
    host = f"s3.{settings.s3_region}.{domain}"
    if settings.s3_addressing_style == "path":
        return f"https://{host}/{settings.s3_bucket}"
    return f"https://{settings.s3_bucket}.{host}"
