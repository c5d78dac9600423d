"""Configuration: read from the environment once, at start, by the main.py of each service."""

from shared.settings.settings import Settings, expect_url, load_settings

__all__ = ["Settings", "expect_url", "load_settings"]
