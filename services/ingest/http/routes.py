"""The table of all operations; routes and the OpenAPI document are made from it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from services.ingest.http import (
    api_keys,
    documentation,
    events,
    presets,
    storages,
    uploads,
    videos,
)
from services.ingest.http.openapi_builder import Answer, Operation, describe
from services.ingest.http.playback_routes import PLAYBACK
from services.ingest.http.requests import guarded
from services.ingest.http.resources import OPENAPI
from services.ingest.http.scopes import ADMIN, ANYONE_WITH_A_KEY, PLATFORMS
from services.ingest.models import (
    CreatedKey,
    KeyList,
    NewKey,
    Preferences,
    PresetList,
    Retried,
    RetryQuery,
    StorageExamination,
    StorageReport,
    UploadForm,
    UserStorage,
    VideoPage,
    VideoQuery,
    VideoRecord,
)
from shared.contracts.source_report import SourceReport

if TYPE_CHECKING:
    from aiohttp import web

VIDEO, USER = "/api/videos/{video_id}", "/api/users/{user_id}/preferences"
USER_STORAGE = "/api/users/{user_id}/storage"
HTML, TEXT, STREAM = "text/html", "text/plain", "text/event-stream"

VIDEOS = (
    Operation(
        "POST",
        "/api/videos/upload",
        "Upload a video, fields before the file; `userId` defaults to the key's user, else to `system`",
        Answer(202, "The video is stored durably and will be processed", VideoRecord),
        uploads.upload_video,
        ANYONE_WITH_A_KEY,
        body=UploadForm,
        body_type="multipart/form-data",
        problems=(400, 408, 413, 429, 503, 507),
    ),
    Operation(
        "GET",
        "/api/videos",
        "List videos, newest first",
        Answer(200, "A page of videos", VideoPage),
        videos.list_videos,
        ANYONE_WITH_A_KEY,
        query=VideoQuery,
        problems=(400,),
    ),
    Operation(
        "GET",
        VIDEO,
        "Get a video",
        Answer(200, "The video", VideoRecord),
        videos.get_video,
        ANYONE_WITH_A_KEY,
        problems=(404,),
    ),
    Operation(
        "GET",
        f"{VIDEO}/source",
        "Get the content of the source, and the decisions about it with their reasons",
        Answer(200, "The tracks and the decisions of the plan", SourceReport),
        videos.get_source,
        ANYONE_WITH_A_KEY,
        problems=(404,),
    ),
    Operation(
        "DELETE",
        VIDEO,
        "Delete a video with all its objects and files",
        Answer(204, "The video is deleted; its files are removed in the background"),
        videos.delete_video,
        ANYONE_WITH_A_KEY,
        problems=(404,),
    ),
    Operation(
        "POST",
        f"{VIDEO}/retry",
        "Retry a failed video where it stopped",
        Answer(202, "The video is being processed again", VideoRecord),
        videos.retry_video,
        ANYONE_WITH_A_KEY,
        problems=(404, 409, 429),
    ),
    Operation(
        "POST",
        "/api/videos/retry",
        "Retry every video that failed for one reason",
        Answer(202, "The number of retried videos", Retried),
        videos.retry_videos,
        PLATFORMS,
        query=RetryQuery,
        problems=(400,),
    ),
    Operation(
        "GET",
        f"{VIDEO}/events",
        "Follow a video: events `progress`, `ready`, `failed`, `deleted`; resumes by Last-Event-ID",
        Answer(200, "Events with a VideoProgress as data; 204 when Last-Event-ID was the last", None, STREAM),
        events.watch_video,
        ANYONE_WITH_A_KEY,
        problems=(404,),
    ),
)

STORAGE = (
    Operation(
        "POST",
        "/api/storage/doctor",
        "Diagnose a storage: problems, with advice",
        Answer(200, "The findings, ordered so that earlier ones explain later ones", StorageReport),
        storages.examine_storage,
        ADMIN,
        body=StorageExamination,
        problems=(400,),
    ),
    Operation(
        "GET",
        USER_STORAGE,
        "Get the storage for a user's videos",
        Answer(200, "The storage; null means the default one", UserStorage),
        storages.get_user_storage,
        ADMIN,
        problems=(404,),
    ),
    Operation(
        "PUT",
        USER_STORAGE,
        "Set the storage for a user's videos; takes effect for the next video",
        Answer(200, "The storage; null means the default one", UserStorage),
        storages.put_user_storage,
        ADMIN,
        body=UserStorage,
        problems=(400, 404),
    ),
)

SETTINGS = (
    Operation(
        "GET",
        "/api/presets",
        "Get the presets",
        Answer(200, "The presets, largest first", PresetList),
        presets.get_presets,
        ANYONE_WITH_A_KEY,
    ),
    Operation(
        "PUT",
        "/api/presets",
        "Replace all presets; takes effect for the next video",
        Answer(200, "The presets, largest first", PresetList),
        presets.put_presets,
        ADMIN,
        body=PresetList,
        problems=(400,),
    ),
    Operation(
        "GET",
        USER,
        "Get a user's default qualities",
        Answer(200, "The qualities; an empty list means every preset", Preferences),
        presets.get_preferences,
        ANYONE_WITH_A_KEY,
        problems=(404,),
    ),
    Operation(
        "PUT",
        USER,
        "Set a user's default qualities",
        Answer(200, "The qualities; an empty list means every preset", Preferences),
        presets.put_preferences,
        ANYONE_WITH_A_KEY,
        body=Preferences,
        problems=(400, 404),
    ),
)

KEYS = (
    Operation(
        "GET", "/api/keys", "List API keys", Answer(200, "The keys", KeyList), api_keys.list_keys, ADMIN
    ),
    Operation(
        "POST",
        "/api/keys",
        "Create an API key",
        Answer(201, "The key, shown only once", CreatedKey),
        api_keys.create_key,
        ADMIN,
        body=NewKey,
        problems=(400,),
    ),
    Operation(
        "DELETE",
        "/api/keys/{key_id}",
        "Revoke an API key",
        Answer(204, "The key no longer works"),
        api_keys.revoke_key,
        ADMIN,
        problems=(404,),
    ),
)

PUBLIC = (
    Operation("GET", "/", "Redirect to the documentation", Answer(302, "To /docs"), documentation.go_to_docs),
    Operation(
        "GET", "/openapi.json", "Get this document", Answer(200, "OpenAPI 3.1"), documentation.get_openapi
    ),
    Operation(
        "GET", "/docs", "Show the documentation", Answer(200, "A page", None, HTML), documentation.get_docs
    ),
    Operation(
        "GET",
        "/docs/{asset}",
        "Get a file of the documentation page",
        Answer(200, "The file", None, "application/octet-stream"),
        documentation.get_docs_asset,
        problems=(404,),
    ),
    Operation("GET", "/healthz", "Liveness: the process is running", Answer(200, "Alive")),
    Operation("GET", "/readyz", "Readiness: whether to send traffic", Answer(200, "Yes"), problems=(503,)),
    Operation("GET", "/statusz", "State of each dependency", Answer(200, "States by name")),
    Operation("GET", "/metrics", "Metrics for Prometheus", Answer(200, "Metrics", None, TEXT)),
)

OPERATIONS = (*VIDEOS, *PLAYBACK, *STORAGE, *SETTINGS, *KEYS, *PUBLIC)


def add_routes(app: web.Application) -> None:
    """Register every operation and the OpenAPI document."""
    app[OPENAPI] = json.dumps(describe(OPERATIONS))
    for operation in OPERATIONS:
        if operation.handler:
            scopes = operation.scopes
            handler = (
                operation.handler if scopes is None else guarded(operation.handler, scopes, operation.query)
            )
            is_upload = operation.handler is uploads.upload_video
            expect = uploads.expect_later if is_upload else None
            app.router.add_route(operation.method, operation.path, handler, expect_handler=expect)
