"""What handlers find in the application."""

from __future__ import annotations

from aiohttp import StreamReader, web

from services.ingest.callers import Caller
from services.ingest.feed import Feed
from shared.layout import WorkDir
from shared.runtime import DATABASE, OUTBOX
from shared.settings import Settings

__all__ = ["CALLER", "DATABASE", "FEED", "OPENAPI", "OUTBOX", "SETTINGS", "UPLOADING", "WORK"]

SETTINGS = web.AppKey("settings", Settings)
WORK = web.AppKey("work", WorkDir)
FEED = web.AppKey("feed", Feed)
OPENAPI = web.AppKey("openapi", str)
UPLOADING: web.AppKey[set[StreamReader]] = web.AppKey("uploading", set)
CALLER = web.RequestKey("caller", Caller)
