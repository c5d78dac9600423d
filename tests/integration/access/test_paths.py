"""Tricks with paths: encoded slashes, dots, double encoding, parameters, case, other forms of a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.access.forgeries import good_token, grant
from tests.integration.access.world import GENERATION, OWNER, TITLE

if TYPE_CHECKING:
    from tests.integration.access.world import World

TRICKS = [
    "/api/stream/{id}%2Fmaster.m3u8",
    "/api/stream/{id}%2f720p%2fsegment_001.ts",
    "/api/stream/{id}/720p%2Fsegment_001.ts",
    "/api/stream/{id}/720p/..%2f720p/segment_001.ts",
    "/api/stream/{id}/720p/%2e%2e/master.m3u8",
    "/api/stream/{id}/../{id}/master.m3u8",
    "/api/stream/./{id}/./master.m3u8",
    "/api/stream/{id}/%252e%252e/master.m3u8",
    "/api/stream/{id}/720p%252fsegment_001.ts",
    "/api/stream/{id}/master.m3u8;x=1",
    "/api/stream/{id};x/master.m3u8",
    "/api/stream/{id}/;/master.m3u8",
    "/api/stream/{ID}/master.m3u8",
    "/api/stream/{{{id}}}/master.m3u8",
    "/api/stream/urn:uuid:{id}/master.m3u8",
    "/API/STREAM/{id}/master.m3u8",
    "/api/stream/{id}/MASTER.M3U8",
    "/api/stream/{id}/720P/segment_001.ts",
    "/api/stream/{id}/720p/segment_001.TS",
    "/api/stream/{id}/720p/segment_1.ts",
    "/api/stream/{id}/720p/segment_0001.ts",
    "/api/stream/{id}/720p/segment_%30%30%31.ts",
    "/api/stream/{id}/%37%32%30p/segment_001.ts",
    "/api/stream/{id}/720p/segment_001.ts/",
    "/api/stream/{id}/720p/segment_001.ts%00.jpg",
    "/api/stream/{id}/720p/segment_001.ts%0a",
    "/api/stream/{id}/720p\\segment_001.ts",
    "/api/stream//{id}/master.m3u8",
    "//api/stream/{id}/master.m3u8",
    "/api/stream/{id}//master.m3u8",
    "/api/stream/{id}/t//master.m3u8",
    "/api/stream/{id}/t/%20/master.m3u8",
    "/api/stream/{id}/t/./master.m3u8",
    "/api/stream/{id}/t/%2e%2e/master.m3u8",
    "/api/stream/{id}/t/x%2f..%2f/master.m3u8",
    "/api/stream/{id}/t/{token}/../../{other}/master.m3u8",
    "/api/stream/{other}/t/{token}/..%2f..%2f..%2f{id}/master.m3u8",
    "/api/stream/{other}/t/{token}%2f..%2f..%2f..%2f{id}/master.m3u8",
    "/api/stream/{id}/t/{token}/t/{token}/master.m3u8",
    "/api/stream/{id}/t/{token}%00/master.m3u8",
    "/api/stream/{id}/t/{token}%20/master.m3u8",
    "/api/stream/{id}/t/x%2F{token}/master.m3u8",
    "/api/stream/{id}/T/{token}/master.m3u8",
    "/api/stream/{id}/t/{grant}/720p/segment_001.ts",
    "/api/stream/{id}/g/{token}/720p/segment_001.ts",
    "/api/stream/{id}/g/{grant}/master.m3u8",
    "/api/stream/{id}/g/{grant}/thumbnail.jpg",
    "/api/stream/{id}/g/{grant}/720p/playlist.m3u8",
    "/api/stream/{id}/g/{grant}/720p/iframes.m3u8",
    "/api/stream/{id}/g/{grant}/../720p/segment_001.ts",
    "/api/stream/{id}/g//{grant}/720p/segment_001.ts",
    "/api/stream/{id}/g/x%2F{grant}/720p/segment_001.ts",
    "/api/stream/{id}/g/%2e/{grant}/720p/segment_001.ts",
    "/api/stream/{id}/G/{grant}/720p/segment_001.ts",
    "/api/stream/{other}/g/{grant}/..%2f..%2f..%2f{id}/720p/segment_001.ts",
    "/hls/alice/{id}/master.m3u8",
    "/media/hls/alice/{id}/720p/segment_001.ts",
    "/api/stream/..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/watch/{id}%2fstate",
    "/watch/{id}/state;x",
    "/watch/{id}/../{id}/state",
    "/watch/{id}/t/{othertoken}/state",
    "/watch/{id}/t//state",
    "/watch/assets/0000000000000000/..%2f..%2fpage.html",
    "/watch/assets/{{version}}/%2e%2e%2fplayer_page.py",
    "http://127.0.0.1/api/stream/{id}/master.m3u8",
    "http://evil.example/api/stream/{id}/master.m3u8",
    "/api/stream/{id}/master.m3u8?token={token}",
    "/api/stream/{id}/master.m3u8?t={token}&g={grant}",
]


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("state", ["ready", "growing"])
def test_tricks_with_paths_open_nothing(world: World, door: str, trick: str, state: str) -> None:
    video_id, other = world.ids[state], world.ids["other"]
    token = good_token(video_id, world.signing, GENERATION, max_height=1)
    foreign = good_token(other, world.signing, GENERATION)
    made = grant(other, world.signing, GENERATION)
    world.secrets |= {token, foreign, made}
    asked = trick.format(
        id=video_id, ID=str(video_id).upper(), other=other, token=token, othertoken=foreign, grant=made
    )
    for method in ("GET", "HEAD"):
        answer = world.ask(door, method, asked)
        assert answer.status in {400, 401, 403, 404}, answer
        assert not any(word in answer.body for word in (TITLE, OWNER, "Traceback", "#EXTM3U"))
        assert answer.headers.get("Cache-Control", "no-store") in {"no-store", "private, no-store"}


@pytest.mark.parametrize(
    "trick",
    [
        "/api/videos/{id}%2fsource",
        "/api/videos/{id}/../{id}",
        "/api/videos/{ID}",
        "/api/videos/{{{id}}}",
        "/api/videos/urn:uuid:{id}",
        "/api/videos/{plain}",
        "/api/videos/{id};x",
        "/api/videos/{id}/",
        "/api/videos//{id}",
        "/API/videos/{id}",
        "/api/users/bob%2f..%2falice/preferences",
        "/api/users/bob/../alice/preferences",
        "/api/users/ALICE/preferences",
        "/api/users/alice%00/preferences",
        "/docs/..%2f..%2fmain.py",
        "/docs/%2e%2e/routes.py",
    ],
)
def test_tricks_with_paths_open_nothing_at_ingest(world: World, trick: str) -> None:
    video_id = world.ids["ready"]
    asked = trick.format(id=video_id, ID=str(video_id).upper(), plain=video_id.hex)
    for key in (None, "bob"):
        headers = {"Authorization": f"Bearer {world.keys[key]}"} if key else {}
        answer = world.ask("ingest", "GET", asked, **headers)
        assert answer.status in {400, 401, 403, 404}, answer
        assert not any(word in answer.body for word in (TITLE, "Traceback", "import "))
