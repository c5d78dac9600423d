"""Settings that ingest reads from the environment."""

from __future__ import annotations

from shared.settings import (
    AdmissionSettings,
    BrokerSettings,
    CorsSettings,
    DatabaseSettings,
    ProcessSettings,
    SizeSettings,
    StreamUrlSettings,
    VisibilitySettings,
    WorkspaceSettings,
)


class IngestSettings(
    ProcessSettings,
    DatabaseSettings,
    BrokerSettings,
    WorkspaceSettings,
    VisibilitySettings,
    StreamUrlSettings,
    CorsSettings,
    SizeSettings,
    AdmissionSettings,
):
    """The settings of ingest."""
