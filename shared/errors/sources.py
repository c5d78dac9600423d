"""Errors of sources: what is wrong with a file, or with the server that it comes from."""

from __future__ import annotations

from shared.errors.base import PermanentError, TransientError


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
    """The file of an upload is missing; on a shared volume it may appear with a delay."""


class SourceFetchFailed(TransientError):
    """The server of the source did not answer correctly."""

    reason = "source_fetch_failed"


class SourceServerUnavailable(SourceFetchFailed):
    """The server of the source is unavailable or overloaded: the work waits for it."""


class SourceChanged(SourceFetchFailed):
    """The source was replaced while it was read: it has to be read from the beginning."""
