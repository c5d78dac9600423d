"""The settings of each service."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.settings import ProcessSettings

SERVICES = ("ingest", "transcoder", "uploader", "streamer")


def settings_of(service: str) -> type[ProcessSettings]:
    """Return what a service reads from the environment."""
    kind: type[ProcessSettings] = getattr(
        import_module(f"services.{service}.settings"), f"{service.capitalize()}Settings"
    )
    return kind
