"""Access to playback: changing a video, playback tokens, and the keys of platforms."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aiohttp import web

from services.ingest.http.requests import answer, read_json, read_uuid, visible_video
from services.ingest.http.resources import CALLER, DATABASE, URLS
from services.ingest.http.storages import expect_private_possible
from services.ingest.http.videos import record
from services.ingest.models import VideoChange
from services.ingest.playback_models import (
    NewPlaybackKey,
    PlaybackKeyList,
    PlaybackKeyRecord,
    PlaybackToken,
    TokenRequest,
    TokensRevoked,
)
from shared import videos
from shared.errors import NotFound
from shared.http.problems import HttpProblem
from shared.playback import key_store
from shared.playback.models import Viewer
from shared.playback.tokens import read_network, sign

if TYPE_CHECKING:
    from shared.videos import Video


async def change_video(request: web.Request) -> web.Response:
    """Change title, visibility or delivery of a video; nothing that is stored is rewritten."""
    wanted = await read_json(request, VideoChange)
    video_id = read_uuid(request, "video_id")
    async with request.app[DATABASE].transaction() as connection:
        former = await visible_video(connection, request[CALLER], video_id)
        await videos.change(connection, video_id, _change(wanted))
        video = await visible_video(connection, request[CALLER], video_id)
        if video.visibility != former.visibility:
            await videos.request_cache_purge(connection, video_id)
        if wanted.visibility == "private":  # its row is locked: no chunk can go to another storage meanwhile
            await expect_private_possible(connection, request, video)
    return answer(record(request, video))


def _change(wanted: VideoChange) -> videos.Change:
    given = wanted.model_fields_set
    return videos.Change(
        title=wanted.title,
        sets_title="title" in given,
        visibility=wanted.visibility,
        delivery=wanted.delivery,
        sets_delivery="delivery" in given,
    )


async def create_token(request: web.Request) -> web.Response:
    """Answer with a token that lets its holder watch one video for a limited time."""
    wanted = await read_json(request, TokenRequest, empty=TokenRequest())
    async with request.app[DATABASE].transaction() as connection:
        video = await visible_video(connection, request[CALLER], read_uuid(request, "video_id"))
        key = await key_store.signing_key(connection)
    viewer = _viewer(wanted, video, key.kid)
    token, urls = sign(viewer, key), request.app[URLS]
    answered = PlaybackToken(
        token=token,
        expires_at=datetime.fromtimestamp(viewer.expires_at, UTC),
        playlist_url=urls.playlist_with(token, video.video_id),
        player_url=urls.player(video.video_id, token),
    )
    return answer(answered, status=201, headers={"Cache-Control": "no-store"})


def _viewer(wanted: TokenRequest, video: Video, kid: str) -> Viewer:
    return Viewer(
        video_id=video.video_id,
        kid=kid,
        expires_at=int(time.time()) + wanted.ttl_seconds,
        generation=video.token_generation,
        max_height=wanted.max_height,
        origins=tuple(wanted.origins),
        networks=tuple(map(read_network, wanted.ip)),
    )


async def revoke_tokens(request: web.Request) -> web.Response:
    """End all playback tokens of a video at once."""
    video_id = read_uuid(request, "video_id")
    async with request.app[DATABASE].transaction() as connection:
        await visible_video(connection, request[CALLER], video_id)
        generation = await videos.revoke_tokens(connection, video_id)
        if generation is None:
            raise NotFound("there is no such video")
        await videos.request_cache_purge(connection, video_id)
    return answer(TokensRevoked(generation=generation))


async def list_playback_keys(request: web.Request) -> web.Response:
    """Answer with the public keys that platforms have registered."""
    async with request.app[DATABASE].transaction() as connection:
        rows = await key_store.registered(connection)
    records = [
        PlaybackKeyRecord(
            kid=row["kid"], alg=row["alg"], public_key=row["material"], created_at=row["created_at"]
        )
        for row in rows
    ]
    return answer(PlaybackKeyList(keys=records))


async def register_playback_key(request: web.Request) -> web.Response:
    """Register a public key; tokens signed with its private key are valid from then on."""
    new = await read_json(request, NewPlaybackKey)
    async with request.app[DATABASE].transaction() as connection:
        if not await key_store.register(connection, new.kid, new.alg, new.public_key):
            raise HttpProblem(409, "kid_taken", f"kid: there is a key {new.kid} already; choose another id")
        rows = await key_store.registered(connection)
    row = next(row for row in rows if row["kid"] == new.kid)
    created = PlaybackKeyRecord(
        kid=row["kid"], alg=row["alg"], public_key=row["material"], created_at=row["created_at"]
    )
    return answer(created, status=201)


async def remove_playback_key(request: web.Request) -> web.Response:
    """Remove a public key, and with it all tokens that it signed."""
    async with request.app[DATABASE].transaction() as connection:
        if not await key_store.remove(connection, request.match_info["kid"]):
            raise NotFound("there is no such key")
    return web.Response(status=204)
