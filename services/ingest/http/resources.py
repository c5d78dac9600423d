"""Keys of the application's resources, for handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from services.ingest.auth.caller import Caller
from services.ingest.progress.poller import Feed
from services.ingest.uploads.admission import Admission
from services.ingest.uploads.pace import UploadPace
from shared.playback.urls import PlaybackUrls
from shared.service.resources import DATABASE, OUTBOX
from shared.storage.placement import StorageRules

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from functools import partial
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
    "PACE",
    "STORAGE_RULES",
    "UPLOADING",
    "URLS",
]

URLS = web.AppKey("urls", PlaybackUrls)
STORAGE_RULES = web.AppKey("storage_rules", StorageRules)
MAX_UPLOAD_BYTES = web.AppKey("max_upload_bytes", int)
DIAGNOSE: web.AppKey[Mapping[str, partial[Coroutine[Any, Any, Report]]]] = web.AppKey("diagnose", dict)
ADMISSION = web.AppKey("admission", Admission)
PACE = web.AppKey("pace", UploadPace)
FEED = web.AppKey("feed", Feed)
OPENAPI = web.AppKey("openapi", str)
UPLOADING: web.AppKey[set[StreamReader]] = web.AppKey("uploading", set)
CALLER = web.RequestKey("caller", Caller)
