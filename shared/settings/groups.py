"""Groups of settings, each for one part of a service.

A service's settings combine the groups that it uses.
"""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.names import DEFAULT_STORAGE
from shared.settings.storage_settings import StorageSettings
from shared.settings.storages import Storages, place_of
from shared.settings.urls import HttpUrl, expect_scheme


def _secret_url(*schemes: str) -> AfterValidator:
    def check(value: SecretStr) -> SecretStr:
        expect_scheme(value.get_secret_value(), *schemes)
        return value

    return AfterValidator(check)


def _split(value: object) -> object:
    """Split a comma-separated list."""
    return (
        tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
    )


def _lowered(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(value.lower() for value in values)


def _checked_origins(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        expect_scheme(value, "http", "https")
        if value.count("/") != 2:
            raise ValueError(f"{value} is not an origin: give only scheme, host and port")
    return values


def _checked_networks(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        try:
            ip_network(value, strict=False)
        except ValueError:
            raise ValueError(f"{value} is not an address or range") from None
    return values


def _checked_queues(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if value not in TRANSCODER_QUEUES:
            raise ValueError(f"{value} is not a transcoder queue: choose from {', '.join(TRANSCODER_QUEUES)}")
    if not values:
        raise ValueError(f"name at least one of {', '.join(TRANSCODER_QUEUES)}")
    return values


TRANSCODER_QUEUES = ("plan", "first", "bulk")
DATABASE_SCHEMES = ("postgresql", "postgres")
DatabaseUrl = Annotated[SecretStr, _secret_url(*DATABASE_SCHEMES)]
BrokerUrl = Annotated[SecretStr, _secret_url("amqp", "amqps")]
Listed = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class EnvironmentSettings(BaseSettings):
    """Settings from the environment; every field is read from the variable with its name."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True)

    def masked(self) -> dict[str, str]:
        """Return every setting by variable name, with secrets and URL passwords masked."""
        return {name.upper(): _mask(value) for name, value in self}


class ProcessSettings(EnvironmentSettings):
    """The process of a service: listening, logging, shutdown."""

    http_host: str = ""  # every address, IPv4 and IPv6
    http_port: Annotated[int, Field(ge=0, le=65535)] = 0
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 300.0


class DatabaseSettings(EnvironmentSettings):
    """Postgres."""

    database_url: DatabaseUrl


class BrokerSettings(EnvironmentSettings):
    """RabbitMQ."""

    rabbitmq_url: BrokerUrl


class WorkDirSettings(EnvironmentSettings):
    """The directory that services share; local storage is below it."""

    work_dir: Path


class WorkVolumeSettings(WorkDirSettings):
    """The work volume."""

    adopt_work_dir: bool = False


class DefaultStorageSettings(StorageSettings, WorkDirSettings):
    """The storage described by the environment, and those in the STORAGES file."""

    aws_region: str = ""
    aws_default_region: str = ""
    storages: Storages = ()

    @model_validator(mode="after")
    def _check_storages_differ(self) -> DefaultStorageSettings:
        root = self.local_root.resolve()
        here = place_of(self, root)
        for each in self.storages:
            directory = (each.directory or Path()).resolve()
            if place_of(each, directory) == here:
                raise ValueError(
                    f"STORAGES: {each.name} is in the same place as the default storage: give it another "
                    "bucket or directory, or remove it"
                )
            if each.directory is None or directory == root:  # the default storage's, while it was local
                continue
            if directory.is_relative_to(self.work_dir.resolve()):
                raise ValueError(f"STORAGES: {each.name}: directory must be outside WORK_DIR")
        return self

    @property
    def local_root(self) -> Path:
        """The root directory of the default storage if it is local."""
        return self.work_dir / "media"

    @property
    def by_storage(self) -> dict[str, StorageSettings]:
        """The settings of every storage by name, the default one first."""
        return {DEFAULT_STORAGE: self, **{each.name: each for each in self.storages}}

    @property
    def has_private_storage(self) -> bool:
        return any(each.private for each in self.storages)


class VisibilitySettings(DefaultStorageSettings):
    """The default visibility of videos."""

    default_visibility: Literal["public", "private"] = "public"

    @model_validator(mode="after")
    def _check_privacy(self) -> VisibilitySettings:
        if self.default_visibility == "private" and self.is_public and not self.has_private_storage:
            raise ValueError(
                "DEFAULT_VISIBILITY=private needs a private storage: unset S3_PUBLIC_URL, or add one to "
                "STORAGES"
            )
        return self


class StreamUrlSettings(EnvironmentSettings):
    """The public address of the streamer."""

    public_stream_url: HttpUrl = "http://localhost:8081"


class CorsSettings(EnvironmentSettings):
    """Web origins that may use a service."""

    cors_origins: Annotated[Listed, AfterValidator(_checked_origins)] = ()


class SizeSettings(EnvironmentSettings):
    """Size limits of uploads and fetched sources."""

    max_upload_bytes: Annotated[int, Field(gt=0)] = 50 * 1024**3
    disk_reserve_bytes: Annotated[int, Field(ge=0)] = 1024**3


class AdmissionSettings(EnvironmentSettings):
    """Limits on uploads."""

    max_uploads_at_once: Annotated[int, Field(ge=1, le=10_000)] = 100
    max_processing_per_user: Annotated[int, Field(ge=0)] = 1000
    max_bytes_per_user: Annotated[int, Field(ge=0)] = 0


class WorkerSettings(EnvironmentSettings):
    """Retries and timeouts."""

    retry_attempts: Annotated[int, Field(ge=1, le=20)] = 6
    retry_seconds: Annotated[float, Field(gt=0, le=600)] = 1.0
    storage_patience_seconds: Annotated[float, Field(ge=0, le=30 * 86400)] = 21_600.0
    auto_retry: bool = True
    lease_seconds: Annotated[float, Field(ge=2, le=600)] = 15.0


class EncodingSettings(EnvironmentSettings):
    """How videos are encoded."""

    hls_segment_seconds: Annotated[float, Field(ge=1, le=60)] = 10
    chunk_seconds: Annotated[float, Field(ge=1, le=3600)] = 60
    encoder: Literal["auto", "h264_nvenc", "libx264"] = "auto"
    growth_seconds: Annotated[float, Field(ge=0, le=3600)] = 5.0
    verify: Literal["quick", "full", "off"] = "quick"
    per_title: Literal["off", "quality", "ladder"] = "off"
    quality_ffmpeg: str = ""
    transcoder_concurrency: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = "auto"
    transcoder_queues: Annotated[Listed, AfterValidator(_checked_queues)] = TRANSCODER_QUEUES
    sandbox: Literal["required", "best-effort", "off"] = "best-effort"
    sandbox_memory_bytes: Annotated[int, Field(ge=1024**3)] = 16 * 1024**3


class SourceSettings(WorkDirSettings):
    """Permitted sources."""

    source_private_hosts: Annotated[Listed, AfterValidator(_lowered)] = ()
    source_dirs: Listed = ()
    source_buckets: Listed = ()
    source_cache_bytes: Annotated[int, Field(gt=0)] = 20 * 1024**3

    @model_validator(mode="after")
    def _check_source_dirs_are_in_the_volume(self) -> SourceSettings:
        root = self.work_dir.resolve()
        for name in self.source_dirs:
            if not (root / name).resolve().is_relative_to(root):
                raise ValueError(f"SOURCE_DIRS: {name} is outside WORK_DIR")
        return self


class MaintenanceSettings(EnvironmentSettings):
    """What the uploader removes, and when it announces work again."""

    delete_local_after_s3: bool = False
    failed_original_seconds: Annotated[float, Field(ge=0)] = 604_800.0
    delete_again_seconds: Annotated[float, Field(ge=0, le=86400)] = 300.0
    reconcile_seconds: Annotated[float, Field(ge=1, le=86400)] = 600.0
    move_grace_seconds: Annotated[float, Field(ge=0, le=30 * 86400)] = 86_400.0
    sweep: Literal["off", "report", "remove"] = "remove"
    sweep_age_seconds: Annotated[float, Field(gt=0)] = 86400.0
    sweep_interval_seconds: Annotated[float, Field(gt=0)] = 3600.0


class CachePurgeSettings(EnvironmentSettings):
    """Where requests to purge videos from a CDN are sent."""

    cache_purge_url: HttpUrl = ""
    cache_purge_token: SecretStr = SecretStr("")


class PlayerSettings(EnvironmentSettings):
    """How the streamer delivers media, and to whom."""

    delivery: Literal["redirect", "signed", "proxy"] | None = None
    edge: Literal["", "nginx"] = ""
    streamer_processes: Annotated[int, Field(ge=0, le=256)] = 1  # 0: one per core
    trusted_proxies: Annotated[Listed, AfterValidator(_checked_networks)] = ()
    embed_origins: Listed = ("*",)
    viewing_numbers: bool = True


def _mask(value: object) -> str:
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        head, at, host = secret.rpartition("@")
        if at and "://" in head:
            return f"{head.split('://')[0]}://***@{host}"
        return "***" if secret else ""
    return ",".join(str(each) for each in value) if isinstance(value, tuple) else str(value)
