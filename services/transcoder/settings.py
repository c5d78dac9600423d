"""Settings that the transcoder reads from the environment."""

from __future__ import annotations

from shared.settings import (
    BrokerSettings,
    DatabaseSettings,
    EncodingSettings,
    ProcessSettings,
    SizeSettings,
    SourceSettings,
    VisibilitySettings,
    WorkerSettings,
    WorkspaceSettings,
)


class TranscoderSettings(
    ProcessSettings,
    DatabaseSettings,
    BrokerSettings,
    WorkspaceSettings,
    VisibilitySettings,
    SizeSettings,
    WorkerSettings,
    EncodingSettings,
    SourceSettings,
):
    """The settings of the transcoder; it reads sources from S3 with the credentials of the storage."""
