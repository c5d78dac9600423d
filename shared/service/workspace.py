"""The workspace of a service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from shared.workspace.volume import VolumeWorkspace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from shared.settings import WorkVolumeSettings
    from shared.workspace.interface import Workspace

WORKSPACE: web.AppKey[Workspace] = web.AppKey[Any]("workspace", object)


def workspace_context(settings: WorkVolumeSettings) -> Callable[[web.Application], AsyncIterator[None]]:
    """Return a context that opens the workspace."""

    async def context(app: web.Application) -> AsyncIterator[None]:
        app[WORKSPACE] = VolumeWorkspace.at(settings.work_dir)
        yield

    return context
