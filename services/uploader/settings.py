"""Settings that the uploader reads from the environment."""

from __future__ import annotations

from shared.settings import (
    BrokerSettings,
    CachePurgeSettings,
    DatabaseSettings,
    DefaultStorageSettings,
    MaintenanceSettings,
    ProcessSettings,
    StreamUrlSettings,
    WorkerSettings,
    WorkspaceSettings,
)


class UploaderSettings(
    ProcessSettings,
    DatabaseSettings,
    BrokerSettings,
    WorkspaceSettings,
    DefaultStorageSettings,
    StreamUrlSettings,
    WorkerSettings,
    MaintenanceSettings,
    CachePurgeSettings,
):
    """The settings of the uploader."""


class MigrationSettings(ProcessSettings, DatabaseSettings):
    """The settings of the migrate command."""
