"""Who may watch: visibility at upload and later, playback tokens, revocation, and keys of a platform."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.playback import key_store, tokens
from tests.integration.ingest.conftest import assert_problem

if TYPE_CHECKING:
    from shared.database.pool import Database
    from shared.playback.models import PlaybackKey
    from tests.integration.ingest.conftest import Api


async def in_force(database: Database) -> dict[str, PlaybackKey]:
    async with database.transaction() as connection:
        return {key.kid: key for key in await key_store.all_keys(connection)}


async def test_visibility_is_chosen_at_upload_and_changed_later(api: Api) -> None:
    _, record, _ = await api.upload(visibility="private", delivery="signed")
    assert (record["visibility"], record["delivery"]) == ("private", "signed")
    path = f"/api/videos/{record['id']}"
    _, changed, _ = await api.call("PATCH", path, json={"visibility": "public", "title": "New"})
    assert (changed["visibility"], changed["delivery"], changed["title"]) == ("public", "signed", "New")
    _, changed, _ = await api.call("PATCH", path, json={"delivery": None})
    assert (changed["visibility"], changed["delivery"], changed["title"]) == ("public", None, "New")


async def test_cdn_is_to_purge_a_video_whenever_fewer_viewers_may_watch_it(
    api: Api, database: Database
) -> None:
    async def requested() -> bool:
        async with database.transaction() as connection:
            deleted = await connection.fetch("delete from cache_purges returning video_id")
        return [row["video_id"] for row in deleted] == [video_id]

    video_id = await api.add_video("alice")
    path = f"/api/videos/{video_id}"
    await api.call("PATCH", path, json={"title": "New", "visibility": "public"})
    assert not await requested()
    for method, tail, body in (
        ("PATCH", "", {"visibility": "private"}),
        ("POST", "/revoke-playback-tokens", None),
        ("PATCH", "", {"visibility": "public"}),
        ("DELETE", "", None),
    ):
        assert (await api.call(method, path + tail, json=body))[0] < 300
        assert await requested(), (method, tail)


@pytest.mark.parametrize(
    "body", [{"visibility": "secret"}, {"delivery": "carrier"}, {"owner": "bob"}, [], "x"]
)
async def test_change_is_refused_when_it_cannot_be_understood(api: Api, body: Any) -> None:
    _, record, _ = await api.upload()
    assert_problem(await api.call("PATCH", f"/api/videos/{record['id']}", json=body), 400, "invalid_request")


async def test_no_user_changes_or_opens_the_video_of_another(api: Api) -> None:
    video_id = await api.add_video("alice")
    for method, path in (
        ("PATCH", f"/api/videos/{video_id}"),
        ("POST", f"/api/videos/{video_id}/playback-tokens"),
        ("POST", f"/api/videos/{video_id}/revoke-playback-tokens"),
    ):
        assert_problem(await api.call(method, path, as_="bob", json={}), 404, "not_found")
        assert_problem(await api.call(method, path, as_=None, json={}), 401, "unauthorized")


async def test_token_has_the_requested_claims_and_is_revoked_with_all_others(
    api: Api, database: Database
) -> None:
    video_id = await api.add_video("alice")
    path = f"/api/videos/{video_id}"
    wanted = {"ttlSeconds": 90, "maxHeight": 480, "origins": ["https://Site.example"], "ip": ["203.0.113.7"]}
    status, made, headers = await api.call("POST", f"{path}/playback-tokens", json=wanted)
    assert (status, headers["Cache-Control"]) == (201, "no-store")
    assert made["playlistUrl"].endswith(f"/api/stream/{video_id}/t/{made['token']}/master.m3u8")
    assert made["playerUrl"].endswith(f"/watch/{video_id}/t/{made['token']}")
    viewer = tokens.read(made["token"], await in_force(database))
    assert (viewer.max_height, viewer.origins) == (480, ("https://site.example",))
    assert [str(network) for network in viewer.networks] == ["203.0.113.7/32"]
    assert 80 < viewer.expires_at - time.time() <= 90
    assert (await api.call("POST", f"{path}/revoke-playback-tokens"))[1] == {"generation": 1}
    _, second, _ = await api.call("POST", f"{path}/playback-tokens")
    assert tokens.read(second["token"], await in_force(database)).generation == 1


@pytest.mark.parametrize(
    "body",
    [
        {"ttlSeconds": 0},
        {"ttlSeconds": 10**9},
        {"origins": ["site"]},
        {"ip": ["all"]},
        {"maxHeight": -1},
        {"x": 1},
    ],
)
async def test_token_is_refused_when_the_request_is_wrong(api: Api, body: Any) -> None:
    video_id = await api.add_video("alice")
    answered = await api.call("POST", f"/api/videos/{video_id}/playback-tokens", json=body)
    assert_problem(answered, 400, "invalid_request")


async def test_platform_registers_a_key_and_signs_by_itself(api: Api, database: Database) -> None:
    private = Ed25519PrivateKey.generate()
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    kid = f"cms_{uuid4().hex[:8]}"
    new = {"kid": kid, "alg": "EdDSA", "publicKey": pem}
    assert_problem(await api.call("POST", "/api/playback-keys", json=new), 403, "forbidden")
    assert (await api.call("POST", "/api/playback-keys", as_="admin", json=new))[0] == 201
    assert_problem(await api.call("POST", "/api/playback-keys", as_="admin", json=new), 409, "kid_taken")
    wrong = await api.call("POST", "/api/playback-keys", as_="admin", json=new | {"alg": "RS256"})
    assert_problem(wrong, 400, "invalid_request")
    _, listed, _ = await api.call("GET", "/api/playback-keys", as_="admin")
    assert [(key["kid"], key["publicKey"]) for key in listed["keys"]] == [(kid, pem)]
    claims = {"sub": str(uuid4()), "aud": "playback", "exp": 2**33}
    token = jwt.encode(claims, private, algorithm="EdDSA", headers={"kid": kid})
    assert tokens.read(token, await in_force(database)).video_id == UUID(claims["sub"])
    assert (await api.call("DELETE", f"/api/playback-keys/{kid}", as_="admin"))[0] == 204
    assert kid not in await in_force(database)
    assert_problem(await api.call("DELETE", f"/api/playback-keys/{kid}", as_="admin"), 404, "not_found")


async def test_former_key_verifies_for_a_while_when_keys_are_rotated(database: Database) -> None:
    before = await in_force(database)
    async with database.transaction() as connection:
        kid = await key_store.rotate(connection, keep_seconds=60)
        assert (await key_store.signing_key(connection)).kid == kid
    assert set(await in_force(database)) == {*before, kid}
    async with database.transaction() as connection:
        await key_store.rotate(connection, keep_seconds=-1)
    assert kid not in await in_force(database)
