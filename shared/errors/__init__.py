"""The tree of errors that the pipeline raises on purpose.

    PipelineError                     a known failure; `reason` is its code
    ├── PermanentError                the input is invalid: retrying cannot help
    │   ├── SourceError               the source cannot become a video
    │   │   ├── NoVideoStream · NotAVideo · CorruptSource · EncryptedSource
    │   │   └── UnsupportedCodec · LimitsExceeded · NotConvertible
    │   ├── SourceUnavailable         the source does not exist or may not be read
    │   ├── UnknownQuality            a quality that no preset offers
    │   ├── UnknownStorage            a storage that the settings do not name
    │   ├── InvalidEvent              an event whose data breaks the schema
    │   └── RequestError              an HTTP request that cannot be answered as asked
    │       ├── InvalidRequest · Unauthorized · Forbidden · NotFound
    │       ├── PrivateNotPossible · QuotaExceeded
    │       ├── PlaybackRefused       TokenMissing · TokenInvalid · TokenExpired · TokenNotForThis
    │       └── MalformedBody · UnsupportedEncoding · EmptyFile · UploadStalled · UploadTooLarge
    ├── TransientError                an external failure: retrying may help
    │   ├── SourceFetchFailed         the server of the source did not answer correctly
    │   │   ├── SourceChanged         it was replaced while it was read
    │   │   └── SourceServerUnavailable  it is down or overloaded: retrying may help
    │   ├── EncodeFailed · EncodeStalled · SegmentsLost · WorkerLost · Stalled
    │   ├── StorageInconsistent       the storage does not keep objects as they were put
    │   └── StorageUnavailable        the storage did not answer or is overloaded: retrying may help
    │       └── StorageRefused        the storage rejected the request: a setting has to be corrected
    │           └── StorageFull · StorageMismatch
    ├── DatabaseUnavailable           Postgres did not answer: the work waits for it
    ├── TryLater                      a limit is reached: the client may retry after `seconds`
    │   └── TooManyUploads · TooManyProcessing
    ├── Refused                       it would do harm: nothing was changed
    ├── Deferred                      it cannot start yet: the message returns after `seconds`
    │   ├── OutOfDisk                 the work volume is too full to start or continue
    │   └── WorkVolumeUnavailable     the work volume or bucket is a wrong one, or cannot be used
    │       └── WorkBucketUnavailable  the work bucket did not answer
    └── Superseded                    another worker has the work, or it is no longer needed

`reason` is a stable snake_case code, the same in logs, metrics, events and the API. Only the consume
loop (shared/messaging/verdicts.py) turns these into a retry, a failed video or a dead letter, and only
shared/http/problems.py into an HTTP status. ConfigurationError is separate: it ends the process at start.
"""

from shared.errors.base import (
    ConfigurationError,
    DatabaseUnavailable,
    Deferred,
    PermanentError,
    PipelineError,
    Refused,
    Superseded,
    TransientError,
    TryLater,
    described,
)
from shared.errors.processing import EncodeFailed, EncodeStalled, OutOfDisk, SegmentsLost, Stalled, WorkerLost
from shared.errors.requests import (
    EmptyFile,
    Forbidden,
    InvalidEvent,
    InvalidRequest,
    MalformedBody,
    NotFound,
    PlaybackRefused,
    PrivateNotPossible,
    QuotaExceeded,
    RequestError,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    TokenNotForThis,
    TooManyProcessing,
    TooManyUploads,
    Unauthorized,
    UnknownQuality,
    UnknownStorage,
    UnsupportedEncoding,
    UploadStalled,
    UploadTooLarge,
)
from shared.errors.sources import (
    CorruptSource,
    EncryptedSource,
    LimitsExceeded,
    NotAVideo,
    NotConvertible,
    NoVideoStream,
    OriginalMissing,
    SourceChanged,
    SourceError,
    SourceFetchFailed,
    SourceServerUnavailable,
    SourceUnavailable,
    UnsupportedCodec,
)
from shared.errors.storage import (
    StorageFull,
    StorageInconsistent,
    StorageMismatch,
    StorageRefused,
    StorageUnavailable,
    WorkBucketUnavailable,
    WorkVolumeUnavailable,
)

__all__ = [
    "ConfigurationError",
    "CorruptSource",
    "DatabaseUnavailable",
    "Deferred",
    "EmptyFile",
    "EncodeFailed",
    "EncodeStalled",
    "EncryptedSource",
    "Forbidden",
    "InvalidEvent",
    "InvalidRequest",
    "LimitsExceeded",
    "MalformedBody",
    "NoVideoStream",
    "NotAVideo",
    "NotConvertible",
    "NotFound",
    "OriginalMissing",
    "OutOfDisk",
    "PermanentError",
    "PipelineError",
    "PlaybackRefused",
    "PrivateNotPossible",
    "QuotaExceeded",
    "Refused",
    "RequestError",
    "SegmentsLost",
    "SourceChanged",
    "SourceError",
    "SourceFetchFailed",
    "SourceServerUnavailable",
    "SourceUnavailable",
    "Stalled",
    "StorageFull",
    "StorageInconsistent",
    "StorageMismatch",
    "StorageRefused",
    "StorageUnavailable",
    "Superseded",
    "TokenExpired",
    "TokenInvalid",
    "TokenMissing",
    "TokenNotForThis",
    "TooManyProcessing",
    "TooManyUploads",
    "TransientError",
    "TryLater",
    "Unauthorized",
    "UnknownQuality",
    "UnknownStorage",
    "UnsupportedCodec",
    "UnsupportedEncoding",
    "UploadStalled",
    "UploadTooLarge",
    "WorkBucketUnavailable",
    "WorkVolumeUnavailable",
    "WorkerLost",
    "described",
]
