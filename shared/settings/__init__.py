"""Configuration: read from the environment once, at start, by the main.py of each service."""

from shared.settings.settings import DATABASE_SCHEMES, Settings, check_settings, expect_scheme, load_settings

__all__ = ["DATABASE_SCHEMES", "Settings", "check_settings", "expect_scheme", "load_settings"]
