"""Endpoints for presets and for users' default qualities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.ingest.http.requests import answer, read_json, read_user_id
from services.ingest.http.resources import DATABASE
from services.ingest.models import Preferences, PresetList, PresetModel
from shared.videos import presets
from shared.videos.presets import Preset

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web


async def get_presets(request: web.Request) -> web.Response:
    """Answer with the presets, largest first."""
    async with request.app[DATABASE].transaction() as connection:
        return answer(_shown(await presets.all_presets(connection)))


async def put_presets(request: web.Request) -> web.Response:
    """Replace all presets."""
    ladder = await read_json(request, PresetList)
    async with request.app[DATABASE].transaction() as connection:
        await presets.replace_presets(connection, [_kept(preset) for preset in ladder.root])
        return answer(_shown(await presets.all_presets(connection)))


async def get_preferences(request: web.Request) -> web.Response:
    """Answer with a user's default qualities."""
    user_id = read_user_id(request)
    async with request.app[DATABASE].transaction() as connection:
        qualities = await presets.preferences_of(connection, user_id)
    return answer(Preferences(qualities=list(qualities)))


async def put_preferences(request: web.Request) -> web.Response:
    """Set a user's default qualities."""
    user_id, wanted = read_user_id(request), await read_json(request, Preferences)
    async with request.app[DATABASE].transaction() as connection:
        presets.check_qualities(await presets.all_presets(connection), wanted.qualities)
        await presets.set_preferences(connection, user_id, wanted.qualities)
    return answer(wanted)


def _kept(model: PresetModel) -> Preset:
    return Preset(
        name=model.name,
        short_side=model.short_side,
        video_bps=model.video_bitrate,
        audio_bps=model.audio_bitrate,
        rate_control=model.rate_control,
        quality=model.quality,
        profile=model.profile,
    )


def _shown(ladder: Iterable[Preset]) -> PresetList:
    return PresetList(
        [
            PresetModel(
                name=preset.name,
                short_side=preset.short_side,
                video_bitrate=preset.video_bps,
                audio_bitrate=preset.audio_bps,
                rate_control=preset.rate_control,
                quality=preset.quality,
                profile=preset.profile,
            )
            for preset in ladder
        ]
    )
