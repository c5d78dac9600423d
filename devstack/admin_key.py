"""The admin API key in `.stack/env`."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import aiohttp

from devstack.programs import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class KeyCreationError(Exception):
    """The admin key could not be created; the message has the output of the command."""


async def admin_key(values: Mapping[str, str], python: Path) -> str:
    """Return the known key if the API still accepts it, else a new one."""
    known = values.get("ADMIN_API_KEY")
    if known and await _accepts(values["INGEST_URL"], known):
        return known
    return await _create(values, python)


async def _accepts(ingest_url: str, key: str) -> bool:
    headers = {"Authorization": f"Bearer {key}"}
    url = f"{ingest_url}/api/videos?limit=1"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status != 401


async def _create(values: Mapping[str, str], python: Path) -> str:
    command = (str(python), "-m", "services.ingest", "create-key", "--scope", "admin", "--name", "local")
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=REPOSITORY,
        env={**os.environ, **values},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode != 0:
        raise KeyCreationError(f"creating the admin key failed:\n{err.decode(errors='replace')[-2000:]}")
    return out.decode().strip()
