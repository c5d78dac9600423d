"""The operations that control access to playback."""

from __future__ import annotations

from services.ingest.http import playback_access
from services.ingest.http.openapi_builder import Answer, Operation
from services.ingest.http.scopes import ADMIN, ANYONE_WITH_A_KEY
from services.ingest.models import VideoChange, VideoRecord
from services.ingest.playback_models import (
    NewPlaybackKey,
    PlaybackKeyList,
    PlaybackKeyRecord,
    PlaybackToken,
    TokenRequest,
    TokensRevoked,
)

VIDEO = "/api/videos/{video_id}"

PLAYBACK = (
    Operation(
        "PATCH",
        VIDEO,
        "Change title, visibility or delivery of a video; nothing that is stored is rewritten",
        Answer(200, "The video", VideoRecord),
        playback_access.change_video,
        ANYONE_WITH_A_KEY,
        body=VideoChange,
        problems=(400, 404),
    ),
    Operation(
        "POST",
        f"{VIDEO}/playback-tokens",
        "Create a token that lets its holder watch a private video for a limited time; the body may be empty",
        Answer(201, "The token, and the URLs that carry it", PlaybackToken),
        playback_access.create_token,
        ANYONE_WITH_A_KEY,
        body=TokenRequest,
        problems=(400, 404),
    ),
    Operation(
        "POST",
        f"{VIDEO}/revoke-playback-tokens",
        "End all playback tokens of a video at once",
        Answer(200, "The number that new tokens carry as `gen`", TokensRevoked),
        playback_access.revoke_tokens,
        ANYONE_WITH_A_KEY,
        problems=(404,),
    ),
    Operation(
        "GET",
        "/api/playback-keys",
        "List the public keys with which platforms sign playback tokens",
        Answer(200, "The keys", PlaybackKeyList),
        playback_access.list_playback_keys,
        ADMIN,
    ),
    Operation(
        "POST",
        "/api/playback-keys",
        "Register a public key for playback tokens signed by a platform",
        Answer(201, "The key", PlaybackKeyRecord),
        playback_access.register_playback_key,
        ADMIN,
        body=NewPlaybackKey,
        problems=(400, 409),
    ),
    Operation(
        "DELETE",
        "/api/playback-keys/{kid}",
        "Remove a public key, and with it all tokens that it signed",
        Answer(204, "The key no longer works"),
        playback_access.remove_playback_key,
        ADMIN,
        problems=(404,),
    ),
)
