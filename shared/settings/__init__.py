"""Configuration: read from the environment once, at start, by the main.py of each service."""

from shared.settings.groups import (
    DATABASE_SCHEMES,
    AdmissionSettings,
    BrokerSettings,
    CachePurgeSettings,
    CorsSettings,
    DatabaseSettings,
    DefaultStorageSettings,
    EncodingSettings,
    EnvironmentSettings,
    MaintenanceSettings,
    PlayerSettings,
    ProcessSettings,
    SizeSettings,
    SourceSettings,
    StreamUrlSettings,
    VisibilitySettings,
    WorkDirSettings,
    WorkerSettings,
    WorkVolumeSettings,
)
from shared.settings.settings import Settings, check_settings, load_settings
from shared.settings.storage_settings import StorageSettings
from shared.settings.storages import NamedStorage
from shared.settings.urls import expect_scheme
from shared.settings.workspace import WorkspaceSettings

__all__ = [
    "DATABASE_SCHEMES",
    "AdmissionSettings",
    "BrokerSettings",
    "CachePurgeSettings",
    "CorsSettings",
    "DatabaseSettings",
    "DefaultStorageSettings",
    "EncodingSettings",
    "EnvironmentSettings",
    "MaintenanceSettings",
    "NamedStorage",
    "PlayerSettings",
    "ProcessSettings",
    "Settings",
    "SizeSettings",
    "SourceSettings",
    "StorageSettings",
    "StreamUrlSettings",
    "VisibilitySettings",
    "WorkDirSettings",
    "WorkVolumeSettings",
    "WorkerSettings",
    "WorkspaceSettings",
    "check_settings",
    "expect_scheme",
    "load_settings",
]
