"""Lists are complete, whatever a server says about their next page."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from aiohttp import web

from shared.errors import StorageRefused
from tests.unit.test_storage_s3 import s3_that

ITEM = "<Contents><Key>{key}</Key><Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
KEYS = [f"hls/u/v/segment_{number:03d}.ts" for number in range(1, 6)]


@dataclass
class Lister:
    """Lists two keys a page; `has_tokens`: pages name the next one, `goes_on`: honours a requested start."""

    has_tokens: bool = True
    goes_on: bool = True
    asked: list[dict[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.query))
        last = request.query.get("continuation-token") or request.query.get("start-after", "")
        left = [key for key in KEYS if not self.goes_on or key > last]
        items = "".join(ITEM.format(key=key) for key in left[:2])
        text = f"{items}<IsTruncated>{'true' if left[2:] else 'false'}</IsTruncated>"
        if self.has_tokens and left[2:]:
            text += f"<NextContinuationToken>{left[1]}</NextContinuationToken>"
        return web.Response(
            text=f"<ListBucketResult>{text}</ListBucketResult>", content_type="application/xml"
        )


@pytest.mark.parametrize("has_tokens", [True, False])
async def test_all_pages_are_listed_when_a_server_does_not_name_the_next_one(has_tokens: bool) -> None:
    """The last key is where the next page begins, as older Ceph and Huawei's OBS make necessary."""
    server = Lister(has_tokens)
    async with s3_that(server.answer) as storage:
        assert [stored.key for stored in await storage.keys("hls/u/v")] == KEYS
    assert len(server.asked) == 3
    assert all(asked["prefix"] == "hls/u/v/" for asked in server.asked)


@pytest.mark.parametrize("has_tokens", [True, False])
async def test_list_ends_when_a_server_repeats_its_first_page(has_tokens: bool) -> None:
    server = Lister(has_tokens, goes_on=False)
    async with s3_that(server.answer) as storage:
        with pytest.raises(StorageRefused, match="repeats a page"):
            await storage.keys("hls/u/v")
    assert len(server.asked) == 2
