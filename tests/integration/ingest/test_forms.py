from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.integration.ingest.conftest import assert_problem
from tests.integration.ingest.raw import END, FILE, UPLOAD, nothing_is_left, part, send_raw, talk

if TYPE_CHECKING:
    from tests.integration.ingest.conftest import Api


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (END, "invalid_request"),
        (b"", "invalid_request"),
        (b"no form at all", "invalid_request"),
        (part("title") + END, "invalid_request"),
        (part("file", b"", "empty.mp4") + END, "empty_file"),
        (FILE, "invalid_request"),
        (FILE[:-10], "invalid_request"),
        (FILE + part("title") + END, "invalid_request"),
        (FILE + FILE + END, "invalid_request"),
        (part("title") + part("title") + FILE + END, "invalid_request"),
        (part("title", b"x" * 256) + FILE + END, "invalid_request"),
        (part("title", b"x" * 5000) + FILE + END, "invalid_request"),
        (part("title", b"\xff") + FILE + END, "invalid_request"),
        (part("title", b"a\x00b") + FILE + END, "invalid_request"),
        (part("userId", b"../x") + FILE + END, "invalid_request"),
        (part("qualities", b"720p/") + FILE + END, "invalid_request"),
        (part("qualities", b"725p") + FILE + END, "unknown_quality"),
        (b"".join(part(f"field{n}") for n in range(30)) + FILE + END, "invalid_request"),
    ],
)
async def test_upload_is_refused_when_the_form_is_wrong(api: Api, body: bytes, reason: str) -> None:
    assert_problem(await send_raw(api, body), 400, reason)
    await nothing_is_left(api)


async def test_upload_names_the_valid_qualities_when_one_is_unknown(api: Api) -> None:
    _, problem, _ = await api.upload(qualities="725p")
    assert "1080p, 720p, 480p, 360p" in problem["detail"]


@pytest.mark.parametrize("body", [part("quality", b"720p") + FILE + END, FILE + part("other") + END])
async def test_upload_is_refused_when_a_field_is_not_known(api: Api, body: bytes) -> None:
    result = await send_raw(api, body)
    assert_problem(result, 400, "invalid_request")
    assert "known are file, title, qualities, userId" in result[1]["detail"]
    await nothing_is_left(api)


async def test_upload_is_refused_when_it_is_no_form(api: Api) -> None:
    assert_problem(await api.call("POST", UPLOAD, json={}), 400, "invalid_request")


@pytest.mark.parametrize(
    ("key", "bytes_announced", "status"),
    [("alice", 100_000_000, b"413"), ("nobody", 100, b"401")],
)
async def test_upload_is_checked_before_its_body_is_read(
    api: Api, key: str, bytes_announced: int, status: bytes
) -> None:
    head = f"Authorization: Bearer {api.keys.get(key, 'x')}\r\nContent-Length: {bytes_announced}"
    reader, writer = await talk(api, f"{head}\r\nExpect: 100-continue")
    assert status in await asyncio.wait_for(reader.readline(), 30)
    writer.close()


async def test_upload_is_requested_when_the_client_asks_first(api: Api) -> None:
    body = FILE + END
    head = f"Authorization: Bearer {api.keys['alice']}\r\nContent-Length: {len(body)}"
    reader, writer = await talk(api, f"{head}\r\nExpect: 100-continue")
    assert b"100 Continue" in await asyncio.wait_for(reader.readline(), 30)
    await reader.readline()
    writer.write(body)
    assert b"202" in await asyncio.wait_for(reader.readline(), 30)
    writer.close()
