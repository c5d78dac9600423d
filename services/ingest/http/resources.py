"""Keys of the resources that handlers find in the application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from services.ingest.auth.caller import Caller
from services.ingest.progress.poller import Feed
from services.ingest.uploads.admission import Admission
from shared.service.resources import DATABASE, OUTBOX
from shared.settings import Settings
from shared.workspace.layout import WorkDir

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
