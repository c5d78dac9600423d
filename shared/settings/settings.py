"""Configuration: read from the environment once, at start, by each service's main.py."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.errors import ConfigurationError
from shared.settings.s3_defaults import S3Provider, s3_defaults

if TYPE_CHECKING:
    from collections.abc import Mapping


def expect_url(url: str) -> None:
    """Raise ValueError for a URL that no client can use; the message does not contain the password."""
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
    """Raise ValueError unless a URL has one of the schemes, and a host where it is no database's.

    Postgres may be reached by a socket. The text says nothing of the password.
    """
    expect_url(url)
    scheme, found, rest = url.partition("://")
    if not found or scheme.lower() not in schemes:
        given = f", not with {scheme[:20]}://" if found else ""
        raise ValueError(f"must begin with {' or '.join(f'{name}://' for name in schemes)}{given}")
    if "postgresql" not in schemes and not re.split(r"[/?#]", rest.rpartition("@")[2])[0]:
        raise ValueError("names no host")


def _secret_url(*schemes: str) -> AfterValidator:
    def check(value: SecretStr) -> SecretStr:
        expect_scheme(value.get_secret_value(), *schemes)
        return value

    return AfterValidator(check)


def _check_http(url: str) -> str:
    if url:
        expect_scheme(url, "http", "https")
    return url


def _split(value: object) -> object:
    """Split a list that is written with commas."""
    return (
        tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
    )


def _lowered(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(value.lower() for value in values)


def _checked_origins(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        expect_scheme(value, "http", "https")
        if value.count("/") != 2:
            raise ValueError(f"{value} is no origin: give scheme, host and port alone")
    return values


DATABASE_SCHEMES = ("postgresql", "postgres")
DatabaseUrl = Annotated[SecretStr, _secret_url(*DATABASE_SCHEMES)]
BrokerUrl = Annotated[SecretStr, _secret_url("amqp", "amqps")]
HttpUrl = Annotated[str, AfterValidator(_check_http)]
Listed = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """The configuration; every field is read from the environment variable of its name."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True)

    database_url: DatabaseUrl
    rabbitmq_url: BrokerUrl
    work_dir: Path
    storage_type: Literal["local", "s3"] = "local"

    s3_provider: S3Provider = "generic"
    s3_bucket: str = ""
    s3_endpoint_url: HttpUrl = ""
    s3_region: str = ""
    s3_access_key_id: str = ""
    s3_secret_access_key: SecretStr = SecretStr("")
    s3_session_token: SecretStr = SecretStr("")
    aws_region: str = ""
    aws_default_region: str = ""
    s3_addressing_style: Literal["path", "virtual", ""] = ""
    s3_public_url: HttpUrl = ""
    s3_presign_endpoint_url: HttpUrl = ""
    s3_single_put_bytes: Annotated[int, Field(ge=0)] = 64 * 1024**2
    s3_part_bytes: Annotated[int, Field(ge=1024)] = 16 * 1024**2
    s3_sse: Literal["", "AES256", "aws:kms", "aws:kms:dsse"] = ""
    s3_sse_kms_key_id: str = ""
    s3_delete_versions: bool = False

    delete_local_after_s3: bool = False
    hls_segment_seconds: Annotated[float, Field(ge=1, le=60)] = 10
    chunk_seconds: Annotated[float, Field(ge=1, le=3600)] = 60
    encoder: Literal["auto", "h264_nvenc", "libx264"] = "auto"
    verify: Literal["quick", "full", "off"] = "quick"
    transcoder_concurrency: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = "auto"
    max_upload_bytes: Annotated[int, Field(gt=0)] = 50 * 1024**3
    max_uploads_at_once: Annotated[int, Field(ge=1, le=10_000)] = 100
    max_processing_per_user: Annotated[int, Field(ge=0)] = 1000
    max_bytes_per_user: Annotated[int, Field(ge=0)] = 0
    disk_reserve_bytes: Annotated[int, Field(ge=0)] = 1024**3
    public_stream_url: HttpUrl = "http://localhost:8081"
    delivery: Literal["redirect", "signed", "proxy"] | None = None
    default_visibility: Literal["public", "private"] = "public"
    trusted_proxies: Listed = ()
    embed_origins: Listed = ("*",)
    retry_attempts: Annotated[int, Field(ge=1, le=20)] = 6
    retry_seconds: Annotated[float, Field(gt=0, le=600)] = 1.0
    storage_patience_seconds: Annotated[float, Field(ge=0, le=30 * 86400)] = 21_600.0
    auto_retry: bool = True
    adopt_work_dir: bool = False
    lease_seconds: Annotated[float, Field(ge=2, le=600)] = 15.0
    failed_original_seconds: Annotated[float, Field(ge=0)] = 604_800.0
    delete_again_seconds: Annotated[float, Field(ge=0, le=86400)] = 300.0
    reconcile_seconds: Annotated[float, Field(ge=1, le=86400)] = 600.0
    storage_id: UUID | None = None
    sweep: Literal["off", "report", "remove"] = "remove"
    sweep_age_seconds: Annotated[float, Field(gt=0)] = 86400.0
    sweep_interval_seconds: Annotated[float, Field(gt=0)] = 3600.0
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 300.0
    sandbox: Literal["required", "best-effort", "off"] = "best-effort"
    source_private_hosts: Annotated[Listed, AfterValidator(_lowered)] = ()
    cors_origins: Annotated[Listed, AfterValidator(_checked_origins)] = ()
    source_dirs: Listed = ()
    source_buckets: Listed = ()

    http_host: str = "0.0.0.0"  # noqa: S104 - in a pod the service listens on every address
    http_port: Annotated[int, Field(ge=0, le=65535)] = 0
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @model_validator(mode="before")
    @classmethod
    def _fill_from_provider(cls, values: dict[str, object]) -> dict[str, object]:
        for name, default in s3_defaults(values).items():
            values.setdefault(name, default)
        return values

    @model_validator(mode="after")
    def _check_s3_is_complete(self) -> Settings:
        if self.storage_type == "s3":
            needed = ["s3_bucket", *([] if self.s3_provider == "aws" else ["s3_endpoint_url"])]
            if missing := [name.upper() for name in needed if not getattr(self, name)]:
                raise ValueError(f"STORAGE_TYPE=s3 needs {' and '.join(missing)}")
        if self.s3_sse_kms_key_id and not self.s3_sse.startswith("aws:kms"):
            raise ValueError("S3_SSE_KMS_KEY_ID needs S3_SSE=aws:kms")
        return self

    @model_validator(mode="after")
    def _check_source_dirs_are_in_the_volume(self) -> Settings:
        root = self.work_dir.resolve()
        for name in self.source_dirs:
            if not (root / name).resolve().is_relative_to(root):
                raise ValueError(f"SOURCE_DIRS: {name} lies outside WORK_DIR")
        return self

    @model_validator(mode="after")
    def _check_playback(self) -> Settings:
        if self.default_visibility == "private" and self.s3_public_url:
            raise ValueError("DEFAULT_VISIBILITY=private needs a private bucket: unset S3_PUBLIC_URL")
        for proxy in self.trusted_proxies:
            try:
                ip_network(proxy, strict=False)
            except ValueError:
                raise ValueError(f"TRUSTED_PROXIES: {proxy} is no address or range") from None
        return self

    @property
    def wants_local_files_deleted(self) -> bool:
        """Whether local files are removed once they are in S3 (never when local disk is the storage)."""
        return self.storage_type == "s3" and self.delete_local_after_s3

    def masked(self) -> dict[str, str]:
        """Return every setting by the name of its variable, with secrets and URL passwords masked."""
        return {name.upper(): _mask(value) for name, value in self}


def check_settings(values: Mapping[str, str]) -> None:
    """Raise ConfigurationError naming every variable that is wrong among these, given by field."""
    try:
        Settings(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from error


def load_settings(default_port: int) -> Settings:
    """Read the environment; HTTP_PORT falls back to `default_port`.

    Raises ConfigurationError naming every variable that is missing or wrong.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from error
    return settings if settings.http_port else settings.model_copy(update={"http_port": default_port})


def _explain(error: ValidationError) -> str:
    lines = []
    for fault in error.errors(include_url=False, include_input=False):
        name = ".".join(str(part) for part in fault["loc"]).upper() or "configuration"
        message = "is required" if fault["type"] == "missing" else fault["msg"].removeprefix("Value error, ")
        lines.append(f"{name}: {message}")
    return "; ".join(lines)


def _mask(value: object) -> str:
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        head, at, host = secret.rpartition("@")
        if at and "://" in head:
            return f"{head.split('://')[0]}://***@{host}"
        return "***" if secret else ""
    return ",".join(value) if isinstance(value, tuple) else str(value)
