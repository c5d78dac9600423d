"""Keys of the resources that handlers find in the application."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from services.ingest.auth.caller import Caller
from services.ingest.progress.poller import Feed
from services.ingest.uploads.admission import Admission
from shared.playback.privacy_rule import PrivacyRule
from shared.playback.urls import PlaybackUrls
from shared.service.resources import DATABASE, OUTBOX
from shared.workspace.layout import WorkDir

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from aiohttp import StreamReader

    from shared.storage.doctor import Report

__all__ = [
    "ADMISSION",
    "CALLER",
    "DATABASE",
    "DIAGNOSE",
    "FEED",
    "MAX_UPLOAD_BYTES",
    "OPENAPI",
    "OUTBOX",
    "PRIVACY",
    "UPLOADING",
    "URLS",
    "WORK",
]

URLS = web.AppKey("urls", PlaybackUrls)
PRIVACY = web.AppKey("privacy", PrivacyRule)
MAX_UPLOAD_BYTES = web.AppKey("max_upload_bytes", int)
DIAGNOSE: web.AppKey[partial[Coroutine[Any, Any, Report]]] = web.AppKey("diagnose", partial)
ADMISSION = web.AppKey("admission", Admission)
WORK = web.AppKey("work", WorkDir)
FEED = web.AppKey("feed", Feed)
OPENAPI = web.AppKey("openapi", str)
UPLOADING: web.AppKey[set[StreamReader]] = web.AppKey("uploading", set)
CALLER = web.RequestKey("caller", Caller)
