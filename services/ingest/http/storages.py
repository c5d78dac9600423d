"""Endpoints for the choice and the diagnosis of storages."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from services.ingest.http.requests import answer, read_json, read_user_id
from services.ingest.http.resources import CALLER, DATABASE, DIAGNOSE, STORAGE_RULES
from services.ingest.models import StorageExamination, StorageFinding, StorageReport, UserStorage
from shared import videos
from shared.videos import moves

if TYPE_CHECKING:
    from aiohttp import web

    from shared.database.pool import Connection
    from shared.storage.placement import StorageWish
    from shared.videos import Video


async def check_storage(request: web.Request, wish: StorageWish, user_id: str) -> None:
    """Raise UnknownStorage, PrivateNotPossible if a user's upload cannot be stored as requested."""
    rules = request.app[STORAGE_RULES]
    if wish.upload and request[CALLER].scope == "user":
        rules.expect_choosable(wish.upload)
    async with request.app[DATABASE].transaction() as connection:
        rules.choose(replace(wish, user=await videos.storage_of_user(connection, user_id)))


async def expect_private_possible(connection: Connection, request: web.Request, video: Video) -> None:
    """Raise PrivateNotPossible for a video that is, or would be, in a storage that anyone can read."""
    rules = request.app[STORAGE_RULES]
    if video.location is not None:
        rules.expect_private(video.location, video.storage_name)
        for name in (await moves.copies_of(connection, video.video_id)).values():
            rules.expect_no_public_copy(name)
    elif wish := await videos.storage_wish(connection, video.video_id):
        rules.choose(wish)


async def get_user_storage(request: web.Request) -> web.Response:
    """Answer with the storage for a user's videos."""
    async with request.app[DATABASE].transaction() as connection:
        name = await videos.storage_of_user(connection, read_user_id(request))
    return answer(UserStorage(storage=name))


async def put_user_storage(request: web.Request) -> web.Response:
    """Set the storage for a user's videos; stored videos stay where they are."""
    user_id, wanted = read_user_id(request), await read_json(request, UserStorage)
    if wanted.storage is not None:
        request.app[STORAGE_RULES].expect_known(wanted.storage)
    async with request.app[DATABASE].transaction() as connection:
        await videos.set_storage_of_user(connection, user_id, wanted.storage)
    return answer(wanted)


async def examine_storage(request: web.Request) -> web.Response:
    """Run the doctor on a storage; it leaves nothing behind."""
    wanted = await read_json(request, StorageExamination)
    request.app[STORAGE_RULES].expect_known(wanted.storage)
    diagnose = request.app[DIAGNOSE][wanted.storage]
    report = await diagnose(origins=wanted.origins, fixes_cors=wanted.fix_cors)
    findings = [
        StorageFinding(check=each.check, status=each.status, message=each.message, advice=each.advice or None)
        for each in report.findings
    ]
    return answer(StorageReport(storage=report.storage, healthy=report.is_healthy, findings=findings))
