"""Errors of requests and events: the client or platform sent something invalid."""

from __future__ import annotations

from shared.errors.base import PermanentError, TryLater


class UnknownQuality(PermanentError):
    reason = "unknown_quality"


class UnknownStorage(PermanentError):
    """The storage is not configured, or the user may not choose it."""

    reason = "unknown_storage"


class InvalidEvent(PermanentError):
    """The data of an event violates the schema, so that no record can be created."""

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


class QuotaExceeded(Forbidden):
    """The user's originals have reached the limit in bytes."""

    reason = "quota_exceeded"


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
    """The client sent too little data for too long."""

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
    """A private video, or one that does not exist, was requested without a playback token."""

    reason = "token_missing"


class TokenInvalid(PlaybackRefused):
    reason = "token_invalid"


class TokenExpired(PlaybackRefused):
    reason = "token_expired"


class TokenNotForThis(PlaybackRefused):
    """The playback token or grant is valid, but for something else."""

    reason = "token_not_for_this"


class TooManyUploads(TryLater):
    reason = "too_many_uploads"


class TooManyProcessing(TryLater):
    reason = "too_many_processing"
