"""The tree of errors that the pipeline raises on purpose.

    PipelineError                     something named went wrong; `reason` says what
    ├── PermanentError                the input is at fault: trying again cannot help
    │   ├── SourceError               the source cannot become a video
    │   │   ├── NoVideoStream · NotAVideo · CorruptSource · EncryptedSource
    │   │   └── UnsupportedCodec · LimitsExceeded
    │   ├── SourceUnavailable         the source is not there, or may not be read
    │   ├── UnknownQuality            a quality that no preset offers
    │   └── RequestError              an HTTP request that cannot be answered as asked
    │       ├── InvalidRequest · Unauthorized · Forbidden · NotFound
    │       └── MalformedBody · UnsupportedEncoding · EmptyFile · UploadStalled · UploadTooLarge
    ├── TransientError                the world is at fault: trying again may help
    │   ├── SourceFetchFailed         the source's server did not answer as it should
    │   ├── EncodeFailed · EncodeStalled · WorkerLost · Stalled
    │   └── StorageUnavailable        the storage did not answer, or has too much to do: waiting helps
    │       └── StorageRefused        the storage refused: waiting does not help, correcting a setting does
    │           └── StorageFull · StorageMismatch
    ├── DatabaseUnavailable           Postgres did not answer: the work waits for it in place
    ├── TryLater                      a limit is reached: the client may try again after `seconds`
    │   └── TooManyUploads · TooManyProcessing
    ├── Refused                       it would do harm: nothing was changed
    ├── Deferred                      not now, another worker may be at it: look again after `seconds`
    │   └── OutOfDisk                 the work volume is too full to begin, or to go on
    └── Superseded                    the work was given to another, or is no longer wanted

`reason` is a stable snake_case code: the same word in logs, metrics, events and the API. Only the consume
loop (shared/messaging/verdicts.py) turns these into a retry, a failed video or a dead letter, and only
shared/http/problems.py into an HTTP status. ConfigurationError stands apart: it ends the process at start.
"""

from __future__ import annotations

OUT_OF_DISK_SECONDS = 30.0  # a volume empties no faster, and each who waits costs a look


def described(error: BaseException) -> str:
    """Return what an exception says, or its name when it says nothing."""
    return str(error) or type(error).__name__


class PipelineError(Exception):
    """Anything that the pipeline raises on purpose; `reason` is its stable code."""

    reason = "internal_error"

    @property
    def message(self) -> str:
        """What is wrong and what to do, for people."""
        return str(self)


class ConfigurationError(Exception):
    """A setting is missing or wrong; the text names the variable."""


class PermanentError(PipelineError):
    """The input is at fault: trying again cannot help."""

    reason = "permanent_error"


class TransientError(PipelineError):
    """The world is at fault: trying again may help."""

    reason = "transient_error"


class DatabaseUnavailable(PipelineError):
    """Postgres did not answer; nothing can be decided or written down until it does."""

    reason = "database_unavailable"


class Refused(PipelineError):
    """What was asked for would do harm as things are; nothing was changed."""

    reason = "refused"


class Deferred(PipelineError):
    """Not now, another worker may be at it: look again after `seconds`."""

    reason = "deferred"

    def __init__(self, message: str, *, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class OutOfDisk(Deferred):
    """The work volume is too full: begin, or begin again, when there is room."""

    reason = "insufficient_storage"

    def __init__(self, message: str, seconds: float = OUT_OF_DISK_SECONDS) -> None:
        super().__init__(message, seconds=seconds)


class Superseded(PipelineError):
    """The claim on this work is gone: another worker has it, or nobody wants it any more."""

    reason = "superseded"


class SourceError(PermanentError):
    """The source cannot become a video."""

    reason = "invalid_source"


class NoVideoStream(SourceError):
    reason = "no_video_stream"


class NotAVideo(SourceError):
    reason = "not_a_video"


class CorruptSource(SourceError):
    reason = "corrupt_source"


class EncryptedSource(SourceError):
    reason = "encrypted_source"


class UnsupportedCodec(SourceError):
    reason = "unsupported_codec"


class LimitsExceeded(SourceError):
    reason = "limits_exceeded"


class SourceUnavailable(PermanentError):
    """The source is not there, or lies where the pipeline may not read."""

    reason = "source_unavailable"


class UnknownQuality(PermanentError):
    reason = "unknown_quality"


class RequestError(PermanentError):
    """An HTTP request that cannot be answered as asked."""


class InvalidRequest(RequestError):
    reason = "invalid_request"


class Unauthorized(RequestError):
    """The caller is not known; `sent_key` tells whether a key came with the request."""

    reason = "unauthorized"

    def __init__(self, message: str, *, sent_key: bool) -> None:
        super().__init__(message)
        self.sent_key = sent_key


class Forbidden(RequestError):
    """The caller is known, but may not do this."""

    reason = "forbidden"


class NotFound(RequestError):
    """It does not exist, or belongs to someone else."""

    reason = "not_found"


class MalformedBody(RequestError):
    """The body is cut off, or is not encoded as the headers say."""

    reason = "malformed_body"


class UnsupportedEncoding(RequestError):
    """The body, or a part of it, is compressed or encoded otherwise."""

    reason = "unsupported_encoding"


class EmptyFile(RequestError):
    reason = "empty_file"


class UploadStalled(RequestError):
    """The client sent nothing, or next to nothing, for too long."""

    reason = "upload_stalled"


class UploadTooLarge(RequestError):
    reason = "upload_too_large"


class TryLater(PipelineError):
    """A limit is reached; the client may try again after `seconds`."""

    reason = "try_later"

    def __init__(self, message: str, *, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


class TooManyUploads(TryLater):
    reason = "too_many_uploads"


class TooManyProcessing(TryLater):
    reason = "too_many_processing"


class SourceFetchFailed(TransientError):
    """The server that holds the source did not answer as it should."""

    reason = "source_fetch_failed"


class EncodeFailed(TransientError):
    reason = "encode_failed"


class WorkerLost(TransientError):
    """The work was taken again and again without an end: it seems to kill its workers."""

    reason = "worker_lost"


class Stalled(TransientError):
    """Nothing happens to the video, however often its work is announced."""

    reason = "stalled"


class EncodeStalled(TransientError):
    reason = "encode_stalled"


class StorageUnavailable(TransientError):
    """The storage did not answer, or has too much to do: waiting helps, but for the subclasses."""

    reason = "storage_unavailable"


class StorageRefused(StorageUnavailable):
    """The storage refused, and will until someone corrects credentials, rights, bucket or settings."""

    reason = "storage_refused"


class StorageFull(StorageRefused):
    """A quota is used up, or the storage has no space left."""

    reason = "storage_full"


class StorageMismatch(StorageRefused):
    """The storage that is configured is another one than the records speak of."""

    reason = "storage_mismatch"
