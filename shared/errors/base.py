"""Base classes of errors.

The class decides what follows: a retry, a failed video, or an answer to a client.
"""

from __future__ import annotations


def described(error: BaseException) -> str:
    """Return an exception's text, or its class name when the text is empty."""
    return str(error) or type(error).__name__


class PipelineError(Exception):
    """Base of all errors that the pipeline raises deliberately; `reason` is a stable code."""

    reason = "internal_error"

    made_progress = False  # despite it: the time allowed for retries starts again

    @property
    def message(self) -> str:
        """What is wrong and what to do, as text for users."""
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


class TryLater(PipelineError):
    """A limit is reached; the client may retry after `seconds`."""

    reason = "try_later"

    def __init__(self, message: str, *, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


class Deferred(PipelineError):
    """The work cannot start yet, for example because another worker has it; retry after `seconds`."""

    reason = "deferred"

    def __init__(self, message: str, *, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class Superseded(PipelineError):
    """The claim on this work was lost: another worker has it, or it is no longer needed."""

    reason = "superseded"
