"""The tree of errors that the pipeline raises on purpose.

    PipelineError                     a known failure; `reason` is its code
    ├── PermanentError                the input is invalid: retrying cannot help
    │   ├── SourceError               the source cannot become a video
    │   │   ├── NoVideoStream · NotAVideo · CorruptSource · EncryptedSource
    │   │   └── UnsupportedCodec · LimitsExceeded · NotConvertible
    │   ├── SourceUnavailable         the source does not exist or may not be read
    │   ├── UnknownQuality            a quality that no preset offers
    │   ├── InvalidEvent              an event whose data breaks the schema
    │   └── RequestError              an HTTP request that cannot be answered as asked
    │       ├── InvalidRequest · Unauthorized · Forbidden · NotFound
    │       ├── PrivateNotPossible
    │       ├── PlaybackRefused       TokenMissing · TokenInvalid · TokenExpired · TokenNotForThis
    │       └── MalformedBody · UnsupportedEncoding · EmptyFile · UploadStalled · UploadTooLarge
    ├── TransientError                an external failure: retrying may help
    │   ├── SourceFetchFailed         the server of the source did not answer correctly
    │   │   └── SourceServerUnavailable  it is down or overloaded: retrying may help
    │   ├── EncodeFailed · EncodeStalled · SegmentsLost · WorkerLost · Stalled
    │   └── StorageUnavailable        the storage did not answer or is overloaded: retrying may help
    │       └── StorageRefused        the storage rejected the request: a setting has to be corrected
    │           └── StorageFull · StorageMismatch
    ├── DatabaseUnavailable           Postgres did not answer: the work waits for it
    ├── TryLater                      a limit is reached: the client may retry after `seconds`
    │   └── TooManyUploads · TooManyProcessing
    ├── Refused                       it would do harm: nothing was changed
    ├── Deferred                      it cannot start yet: the message returns after `seconds`
    │   └── OutOfDisk                 the work volume is too full to start or continue
    └── Superseded                    another worker has the work, or it is no longer needed

`reason` is a stable snake_case code, the same in logs, metrics, events and the API. Only the consume
loop (shared/messaging/verdicts.py) turns these into a retry, a failed video or a dead letter, and only
shared/http/problems.py into an HTTP status. ConfigurationError is separate: it ends the process at start.
"""

from __future__ import annotations

OUT_OF_DISK_SECONDS = 30.0  # a volume rarely empties faster, and each retry costs a check


def described(error: BaseException) -> str:
    """Return an exception's text, or its class name when the text is empty."""
    return str(error) or type(error).__name__


class PipelineError(Exception):
    """Base of all errors that the pipeline raises deliberately; `reason` is a stable code."""

    reason = "internal_error"

    @property
    def message(self) -> str:
        """What is wrong and what to do, for humans."""
        return str(self)


class ConfigurationError(Exception):
    """A setting is missing or wrong; the text names the variable."""


class PermanentError(PipelineError):
    """The input is invalid: retrying cannot help."""

    reason = "permanent_error"


class TransientError(PipelineError):
    """An external failure: retrying may help."""

    reason = "transient_error"


class DatabaseUnavailable(PipelineError):
    """Postgres did not answer; nothing can be decided or recorded until it does."""

    reason = "database_unavailable"


class Refused(PipelineError):
    """The request would do harm in the current state; nothing was changed."""

    reason = "refused"


class Deferred(PipelineError):
    """The work cannot start yet, for example because another worker has it; retry after `seconds`."""

    reason = "deferred"

    def __init__(self, message: str, *, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class OutOfDisk(Deferred):
    """The work volume is too full: start, or start again, when there is space."""

    reason = "insufficient_storage"

    def __init__(self, message: str, seconds: float = OUT_OF_DISK_SECONDS) -> None:
        super().__init__(message, seconds=seconds)


class Superseded(PipelineError):
    """The claim on this work was lost: another worker has it, or it is no longer needed."""

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


class NotConvertible(SourceError):
    """The source can be read, but no way to encode it succeeds."""

    reason = "not_convertible"


class SourceUnavailable(PermanentError):
    """The source does not exist, or is somewhere the pipeline may not read."""

    reason = "source_unavailable"


class OriginalMissing(SourceUnavailable):
    """The file of an upload is missing; a volume may show it to other machines a moment later."""


class UnknownQuality(PermanentError):
    reason = "unknown_quality"


class InvalidEvent(PermanentError):
    """The data of an event breaks the schema: no record can be made of it."""

    reason = "invalid_event"


class RequestError(PermanentError):
    """An HTTP request that cannot be answered as asked."""


class InvalidRequest(RequestError):
    reason = "invalid_request"


class Unauthorized(RequestError):
    """The caller is unknown; `sent_key` says whether the request carried a key."""

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
    """The body is truncated, or not encoded as its headers say."""

    reason = "malformed_body"


class UnsupportedEncoding(RequestError):
    """The body or a part of it is compressed or otherwise encoded."""

    reason = "unsupported_encoding"


class EmptyFile(RequestError):
    reason = "empty_file"


class UploadStalled(RequestError):
    """The client sent too little for too long."""

    reason = "upload_stalled"


class UploadTooLarge(RequestError):
    reason = "upload_too_large"


class PrivateNotPossible(RequestError):
    """A private video would be in a public bucket."""

    reason = "private_not_possible"


class PlaybackRefused(RequestError):
    """The request may not play the video that it asks for."""

    reason = "playback_refused"


class TokenMissing(PlaybackRefused):
    """A private video, or one that does not exist, was asked for without a playback token."""

    reason = "token_missing"


class TokenInvalid(PlaybackRefused):
    reason = "token_invalid"


class TokenExpired(PlaybackRefused):
    reason = "token_expired"


class TokenNotForThis(PlaybackRefused):
    """The playback token or grant is good, but for something else."""

    reason = "token_not_for_this"


class TryLater(PipelineError):
    """A limit is reached; the client may retry after `seconds`."""

    reason = "try_later"

    def __init__(self, message: str, *, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


class TooManyUploads(TryLater):
    reason = "too_many_uploads"


class TooManyProcessing(TryLater):
    reason = "too_many_processing"


class SourceFetchFailed(TransientError):
    """The server of the source did not answer correctly."""

    reason = "source_fetch_failed"


class SourceServerUnavailable(SourceFetchFailed):
    """The server of the source is unavailable or overloaded: the work waits for it."""


class EncodeFailed(TransientError):
    reason = "encode_failed"


class WorkerLost(TransientError):
    """The work was started repeatedly and never finished: it probably kills its workers."""

    reason = "worker_lost"


class Stalled(TransientError):
    """The video makes no progress although its work was announced again several times."""

    reason = "stalled"


class SegmentsLost(TransientError):
    """The files of a chunk were lost again and again after it was encoded: the work volume loses files."""

    reason = "segments_lost"


class EncodeStalled(TransientError):
    reason = "encode_stalled"


class StorageUnavailable(TransientError):
    """The storage did not answer or is overloaded: retrying may help, except for the subclasses."""

    reason = "storage_unavailable"


class StorageRefused(StorageUnavailable):
    """The storage rejected the request until credentials, permissions, bucket or settings are corrected."""

    reason = "storage_refused"


class StorageFull(StorageRefused):
    """A quota is exhausted, or the storage has no space left."""

    reason = "storage_full"


class StorageMismatch(StorageRefused):
    """The configured storage is not the one named in the records."""

    reason = "storage_mismatch"
