"""The messages: public events, and commands between our own services.

These models are the source of docs/events/*.json and docs/asyncapi.json.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer  # noqa: TC002 - pydantic reads it

from shared.contracts.model import Model
from shared.contracts.warnings import VideoWarning

EVENTS = "hls.events"
INBOX = "hls.inbox"  # for platforms whose RabbitMQ login may only submit videos
COMMANDS = "hls.commands"

UserId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
QualityName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
WishedQuality = Annotated[str, Field(max_length=64)]  # a name without a preset fails the video
ChunkIndex = Annotated[int, Field(ge=0, le=2**31 - 1)]  # the range of the database column
Stage = Literal["plan", "encode", "upload"]
Visibility = Literal["public", "private"]
Delivery = Literal["redirect", "signed", "proxy"]


class RenditionQuality(Model):
    """The VMAF expected from samples of a rendition: the mean, and what 95 % of the frames reach."""

    vmaf_mean: float
    vmaf_p5: float


class Rendition(Model):
    """The measured properties of a rendition: sizes in pixels, rates in bits and frames per second.

    `quality` is present only if samples were measured before encoding (PER_TITLE).
    """

    name: QualityName
    width: int
    height: int
    bandwidth: int
    average_bandwidth: int
    codecs: str
    frame_rate: float
    quality: RenditionQuality | None = None

    @model_serializer(mode="wrap")
    def _without_absent_quality(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        value: dict[str, Any] = handler(self)
        return {name: part for name, part in value.items() if name != "quality" or part is not None}


class Source(Model):
    """Where the original file is."""

    uri: Annotated[str, Field(min_length=1, max_length=4096)]


class Segment(Model):
    """One encoded segment; `path` is relative to WORK_DIR."""

    rendition: QualityName
    index: Annotated[int, Field(ge=1)]
    path: str
    duration_seconds: float
    bytes: int


class Payload(Model):
    """The data of a message; every message is about one video."""

    type: ClassVar[str]
    exchange: ClassVar[str] = EVENTS
    video_id: UUID

    @property
    def routing_key(self) -> str:
        return self.type


class VideoUploaded(Payload):
    """A video was submitted: by ingest after an upload, or by an internal platform."""

    type = "video.uploaded"
    user_id: UserId
    source: Source
    filename: Annotated[str, Field(max_length=1024)] | None = None
    qualities: Annotated[list[WishedQuality], Field(max_length=16)] | None = None
    visibility: Visibility | None = None
    delivery: Delivery | None = None
    storage: Annotated[str, Field(max_length=64)] | None = None  # an unknown name fails the video


class VideoSegmented(Payload):
    """One chunk of a video is encoded; its segments are under WORK_DIR."""

    type = "video.segmented"
    user_id: UserId
    chunk: ChunkIndex
    chunks: int
    segments: list[Segment]


class VideoStored(Payload):
    """All objects of a video are in storage: it is ready."""

    type = "video.stored"
    user_id: UserId
    storage_type: Literal["local", "s3"]
    s3_bucket: str | None
    s3_key: str
    s3_public_url: str | None
    playlist_url: str
    thumbnail_url: str | None
    duration_seconds: float
    renditions: list[Rendition]
    bytes: int
    warnings: tuple[VideoWarning, ...] = ()


class VideoFailed(Payload):
    """Processing of a video failed; only a retry can make it ready."""

    type = "video.failed"
    user_id: Annotated[str, Field(max_length=64)] | None  # of a rejected event: the user id as received
    stage: Stage
    reason: str
    message: str
    retryable: bool


class ResumeVideo(Payload):
    """Continue a video where it stopped, after a retry or lost messages."""

    type = "video.resume"
    exchange = COMMANDS


class EncodeChunk(Payload):
    """Encode one chunk of a planned video."""

    type = "chunk.encode"
    exchange = COMMANDS
    chunk: ChunkIndex

    @property
    def routing_key(self) -> str:
        """First chunks have their own queue, so that no video waits behind all chunks of another."""
        return "chunk.encode.first" if self.chunk == 0 else "chunk.encode.bulk"


class StoreSegments(Payload):
    """Store the registered segments of a chunk that is still being encoded, so that players can see them."""

    type = "chunk.store"
    exchange = COMMANDS
    chunk: ChunkIndex


class DeleteVideo(Payload):
    """Remove every object and file of a video that was deleted."""

    type = "video.delete"
    exchange = COMMANDS


PUBLIC_EVENTS: tuple[type[Payload], ...] = (VideoUploaded, VideoSegmented, VideoStored, VideoFailed)
COMMAND_TYPES: tuple[type[Payload], ...] = (ResumeVideo, EncodeChunk, StoreSegments, DeleteVideo)
PAYLOADS: dict[str, type[Payload]] = {payload.type: payload for payload in (*PUBLIC_EVENTS, *COMMAND_TYPES)}
