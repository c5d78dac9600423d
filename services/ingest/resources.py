"""What handlers find in the application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from services.ingest.admission import Admission
from services.ingest.callers import Caller
from services.ingest.feed import Feed
from shared.layout import WorkDir
from shared.runtime import DATABASE, OUTBOX
from shared.settings import Settings

if TYPE_CHECKING:
    from aiohttp import StreamReader

__all__ = ["ADMISSION", "CALLER", "DATABASE", "FEED", "OPENAPI", "OUTBOX", "SETTINGS", "UPLOADING", "WORK"]

SETTINGS = web.AppKey("settings", Settings)
ADMISSION = web.AppKey("admission", Admission)
WORK = web.AppKey("work", WorkDir)
FEED = web.AppKey("feed", Feed)
OPENAPI = web.AppKey("openapi", str)
UPLOADING: web.AppKey[set[StreamReader]] = web.AppKey("uploading", set)
CALLER = web.RequestKey("caller", Caller)
