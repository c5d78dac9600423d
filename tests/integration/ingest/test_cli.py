"""Commands for operators: playback tokens made and inspected by hand, keys rotated."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.integration.ingest.conftest import Api

    Run = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def run(database_url: str) -> Run:
    """Return a function that runs a command of ingest with DATABASE_URL alone: code, output, error."""

    async def run_command(*arguments: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.ingest", *arguments),
            env={"PATH": os.environ["PATH"], "DATABASE_URL": database_url},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode().strip(), err.decode().strip()

    return run_command


async def inspected(run: Run, token: str) -> Any:
    code, out, err = await run("inspect-token", token)
    assert (code, err) == (0, "")
    return json.loads(out)


async def test_token_made_by_hand_has_the_requested_claims_until_it_is_revoked(api: Api, run: Run) -> None:
    video_id = await api.add_video("alice")
    limits = (
        "--max-height",
        "480",
        "--origin",
        "https://Site.example",
        "--ip",
        "203.0.113.0/24",
        "--ip",
        "2001:db8::1",
    )
    code, token, err = await run("playback-token", str(video_id), "--ttl-seconds", "90", *limits)
    assert (code, err) == (0, "")
    said = await inspected(run, token)
    assert (said["videoId"], said["maxHeight"], said["fault"]) == (str(video_id), 480, None)
    assert (said["origins"], said["ip"]) == (["https://site.example"], ["203.0.113.0/24", "2001:db8::/64"])
    assert (await run("rotate-playback-key"))[0] == 0
    assert (await inspected(run, token))["fault"] is None, "the former key verifies for a week"
    await api.call("POST", f"/api/videos/{video_id}/revoke-playback-tokens")
    assert "revoked" in (await inspected(run, token))["fault"]


async def test_commands_name_what_is_wrong(api: Api, run: Run) -> None:
    video_id = await api.add_video("alice")
    code, out, err = await run("playback-token", str(video_id), "--ip", "home")
    assert (code, out, "address or a range" in err) == (2, "", True)
    code, out, err = await run("playback-token", "0a1b2c3d-0000-4000-8000-000000000001")
    assert (code, out, "there is no video" in err) == (1, "", True)
    token = (await run("playback-token", str(video_id)))[1]
    code, out, err = await run("inspect-token", token[:-4] + "AAAA")
    assert (code, out, err.startswith("inspect-token: ")) == (1, "", True)
