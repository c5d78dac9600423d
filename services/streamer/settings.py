"""Settings that the streamer reads from the environment."""

from __future__ import annotations

from shared.settings import (
    CorsSettings,
    DatabaseSettings,
    PlayerSettings,
    ProcessSettings,
    StreamUrlSettings,
    VisibilitySettings,
    WorkVolumeSettings,
)


class StreamerSettings(
    ProcessSettings,
    DatabaseSettings,
    WorkVolumeSettings,
    VisibilitySettings,
    StreamUrlSettings,
    CorsSettings,
    PlayerSettings,
):
    """The settings of the streamer, which reads local storage from the work volume."""
