"""Configuration: read from the environment once, at start, by each service's main.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from shared.errors import ConfigurationError
from shared.settings.groups import (
    AdmissionSettings,
    BrokerSettings,
    CachePurgeSettings,
    CorsSettings,
    DatabaseSettings,
    EncodingSettings,
    MaintenanceSettings,
    PlayerSettings,
    ProcessSettings,
    SizeSettings,
    SourceSettings,
    StreamUrlSettings,
    VisibilitySettings,
    WorkerSettings,
)
from shared.settings.workspace import WorkspaceSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

Read = TypeVar("Read", bound=ProcessSettings)


class Settings(
    ProcessSettings,
    DatabaseSettings,
    BrokerSettings,
    WorkspaceSettings,
    VisibilitySettings,
    StreamUrlSettings,
    CorsSettings,
    SizeSettings,
    AdmissionSettings,
    WorkerSettings,
    EncodingSettings,
    SourceSettings,
    MaintenanceSettings,
    CachePurgeSettings,
    PlayerSettings,
):
    """All settings of all services, to check an environment for the whole system."""


def check_settings(values: Mapping[str, str]) -> None:
    """Raise ConfigurationError naming every invalid variable among these fields."""
    try:
        Settings(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from error


def load_settings(kind: type[Read], default_port: int) -> Read:
    """Read the settings of a service from the environment; HTTP_PORT falls back to `default_port`.

    Raises ConfigurationError naming every missing or invalid variable.
    """
    try:
        settings = kind()
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from error
    return settings if settings.http_port else settings.model_copy(update={"http_port": default_port})


def _explain(error: ValidationError) -> str:
    lines = []
    for fault in error.errors(include_url=False, include_input=False):
        name = ".".join(str(part) for part in fault["loc"]).upper() or "configuration"
        message = "is required" if fault["type"] == "missing" else fault["msg"].removeprefix("Value error, ")
        lines.append(f"{name}: {message}")
    return "; ".join(lines)
