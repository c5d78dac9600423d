"""Requests and answers of the API as pydantic models; the OpenAPI document is made from them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from shared.contracts.events import Delivery, QualityName, Rendition, Stage, UserId, Visibility
from shared.contracts.model import Model
from shared.contracts.warnings import VideoWarning
from shared.names import DEFAULT_STORAGE

MIN_YEAR, MAX_YEAR = 1970, 9000  # so that conversion to UTC stays within the range of Postgres and Python

StorageName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
Scope = Literal["admin", "service", "user"]
ShownStatus = Literal["processing", "ready", "failed"]


class Request(Model):
    """A request body; unknown fields are rejected."""

    model_config = ConfigDict(extra="forbid")


class VideoError(Model):
    """Why a video failed; `reason` is a stable code."""

    stage: Stage
    reason: str
    message: str
    retryable: bool


class VideoRecord(Model):
    """A video. Sizes in pixels, rates in bits and frames per second, `progress` from 0 to 1."""

    id: UUID
    user_id: UserId
    title: str | None
    filename: str | None
    visibility: Visibility
    delivery: Delivery | None
    status: ShownStatus
    stage: Literal["plan", "encode", "upload", "stored"]
    progress: Annotated[float, Field(ge=0, le=1)]
    playable: bool
    duration_seconds: float | None
    width: int | None
    height: int | None
    renditions: list[Rendition]
    storage: str | None
    storage_type: Literal["local", "s3"] | None
    s3_key: str | None
    s3_bucket: str | None
    s3_public_url: str | None
    playlist_url: str | None
    thumbnail_url: str | None
    player_url: str
    error: VideoError | None
    warnings: list[VideoWarning]
    created_at: datetime
    updated_at: datetime


class VideoPage(Model):
    """Videos, newest first; `nextCursor` requests the next page, null on the last one."""

    videos: list[VideoRecord]
    next_cursor: str | None


class VideoQuery(Request):
    """Filters for a list of videos."""

    user_id: UserId | None = None
    status: ShownStatus | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str, Field(max_length=200)] | None = None


class RetryQuery(Request):
    """Which failed videos to retry."""

    reason: Annotated[str, Field(pattern=r"^[a-z_]{1,64}$")]


class Retried(Model):
    """The number of retried videos."""

    retried: int


class VideoProgress(Model):
    """The data of a server-sent event."""

    video_id: UUID
    status: Literal["processing", "ready", "failed", "deleted"]
    stage: Literal["plan", "encode", "upload", "stored"]
    progress: Annotated[float, Field(ge=0, le=1)]
    playable: bool
    error: VideoError | None


def _split(value: object) -> object:
    """Split "720p,480p"; an empty string means no choice."""
    return (
        [part.strip() for part in value.split(",") if part.strip()] or None
        if isinstance(value, str)
        else value
    )


def _printable(value: str) -> str:
    if any(ord(letter) < 32 for letter in value):
        raise PydanticCustomError("control", "must not contain control characters")
    return value.strip()


def _distinct(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


Title = Annotated[str, AfterValidator(_printable), Field(max_length=255)]
Qualities = Annotated[list[QualityName], AfterValidator(_distinct), Field(max_length=16)]
QUALITIES_TEXT = WithJsonSchema({"type": "string", "examples": ["720p,480p"]})


class UploadFields(Request):
    """The fields of an upload, all optional; they come before the file."""

    title: Title | None = None
    qualities: Annotated[Qualities | None, BeforeValidator(_split), QUALITIES_TEXT] = None
    user_id: UserId | None = None
    visibility: Visibility | None = None
    delivery: Delivery | None = None
    storage: StorageName | None = None


class UploadForm(UploadFields):
    """The form of an upload for the OpenAPI document only; the file is never held in memory."""

    file: Annotated[str, WithJsonSchema({"type": "string", "format": "binary"})]


class VideoChange(Request):
    """Changes to a video; absent fields are unchanged, a null `delivery` means the configured one."""

    title: Title | None = None
    visibility: Visibility | None = None
    delivery: Delivery | None = None


class PresetModel(Request):
    """A preset: short side in pixels, rates in bits per second.

    `videoBitrate` is never exceeded on average. `rateControl` `quality` uses as much of it as `quality` needs
    (a mean VMAF; null: the default, about 93), `abr` all of it. `profile` weighs CPU time against bits.
    """

    name: QualityName
    short_side: Annotated[int, Field(ge=16, le=4320, multiple_of=2)]
    video_bitrate: Annotated[int, Field(ge=10_000, le=200_000_000)]
    audio_bitrate: Annotated[int, Field(ge=8_000, le=512_000)] = 128_000
    rate_control: Literal["quality", "abr"] = "quality"
    quality: Annotated[float, Field(ge=20, le=100)] | None = None
    profile: Literal["speed", "balanced", "quality"] = "balanced"

    @model_validator(mode="after")
    def _quality_goes_with_its_rate_control(self) -> Self:
        if self.rate_control == "abr" and self.quality is not None:
            raise PydanticCustomError("quality", "quality is not allowed with the rate control abr")
        return self


def _names_differ(presets: list[PresetModel]) -> list[PresetModel]:
    names = [preset.name for preset in presets]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PydanticCustomError(
            "twice", "names must be unique, but these are not: {names}", {"names": ", ".join(twice)}
        )
    return presets


class PresetList(
    RootModel[Annotated[list[PresetModel], AfterValidator(_names_differ), Field(min_length=1, max_length=16)]]
):
    """All presets."""


class UserStorage(Request):
    """The storage for a user's videos, by its name in the settings; null means the default one."""

    storage: StorageName | None


class Preferences(Request):
    """A user's default qualities; an empty list means every preset."""

    qualities: Qualities


def _storable(value: datetime) -> datetime:
    if not MIN_YEAR <= value.year <= MAX_YEAR:
        raise PydanticCustomError("time", f"must be between the years {MIN_YEAR} and {MAX_YEAR}")
    return value


class NewKey(Request):
    """An API key to create; `userId` is required for scope `user` and not allowed for others."""

    name: Annotated[str, AfterValidator(_printable), Field(min_length=1, max_length=255)]
    scope: Scope
    user_id: UserId | None = None
    expires_at: Annotated[AwareDatetime, AfterValidator(_storable)] | None = None

    @model_validator(mode="after")
    def _user_goes_with_scope(self) -> Self:
        if (self.scope == "user") != (self.user_id is not None):
            raise PydanticCustomError("user", "userId is required for scope user and not allowed for others")
        return self


class KeyRecord(Model):
    """The record of an API key, without the key."""

    id: UUID
    name: str
    scope: Scope
    user_id: str | None
    created_at: datetime
    revoked_at: datetime | None
    expires_at: datetime | None
    last_used_at: datetime | None


class CreatedKey(KeyRecord):
    """A new API key; `key` is shown only once."""

    key: str


class KeyList(Model):
    """All API keys, newest first, including revoked ones."""

    keys: list[KeyRecord]


class Problem(BaseModel):
    """Problem details (RFC 9457); `reason` is a stable code.

    The last two are only present with `upload_outcome_unknown`: the video that may exist, and its URL.
    """

    type: str
    title: str
    status: int
    reason: str
    detail: str
    video_id: Annotated[str, Field(serialization_alias="videoId", json_schema_extra={"format": "uuid"})] = ""
    video_url: Annotated[str, Field(serialization_alias="videoUrl")] = ""


class StorageExamination(Request):
    """The storage to diagnose, and the sites that embed players (CORS)."""

    storage: StorageName = DEFAULT_STORAGE
    origins: Annotated[list[str], Field(default_factory=list, max_length=20)]
    fix_cors: bool = False


class StorageFinding(Model):
    """The outcome of one check, with advice."""

    check: str
    status: Literal["ok", "warning", "failed", "skipped"]
    message: str
    advice: str | None


class StorageReport(Model):
    """The doctor's findings; warnings are not failures."""

    storage: str
    healthy: bool
    findings: list[StorageFinding]
