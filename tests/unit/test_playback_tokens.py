"""Viewer tokens and grants: valid ones, and every way to be invalid."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.errors import TokenExpired, TokenInvalid, TokenNotForThis
from shared.playback import path_grants, tokens
from shared.playback.check_public_key import public_key_fault
from shared.playback.models import PlaybackKey, Viewer

if TYPE_CHECKING:
    from shared.errors import PlaybackRefused

VIDEO = UUID("0a1b2c3d-0000-4000-8000-000000000001")
OURS = PlaybackKey("own1", "HS256", "s" * 64)
OTHER = PlaybackKey("own2", "HS256", "t" * 64)
KEYS = {OURS.kid: OURS}
NOW = 1_800_000_000
VIEWER = Viewer(
    VIDEO,
    OURS.kid,
    NOW + 60,
    generation=2,
    max_height=480,
    origins=("https://site.example",),
    networks=(ip_network("203.0.113.0/24"),),
)


def pem(key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def forged(**changes: object) -> str:
    """A token with given header and claims, signed with our key or `key`."""
    claims = {"sub": str(VIDEO), "aud": "playback", "exp": NOW + 60, "gen": 0}
    header = {"kid": OURS.kid}
    key = str(changes.pop("key", OURS.material))
    algorithm = str(changes.pop("alg", "HS256"))
    header |= changes.pop("header", {})  # type: ignore[arg-type]
    claims |= changes
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, key, algorithm=algorithm, headers=header)


def test_token_contains_what_was_signed() -> None:
    assert tokens.read(tokens.sign(VIEWER, OURS), KEYS) == VIEWER


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b.c",
        "x" * 5000,
        forged(key=OTHER.material),
        forged(header={"kid": "own2"}),
        forged(aud="api"),
        forged(aud=None),
        forged(sub=None),
        forged(exp=None),
        forged(sub="no uuid"),
        forged(exp=10**400),
        forged(maxHeight="large"),
        forged(origins=[1]),
        forged(origins=["https://a"] * 65),
        forged(ip=["300.0.0.1"]),
        forged(alg="HS512"),
        jwt.encode({"sub": str(VIDEO), "aud": "playback", "exp": NOW + 60}, "", "none", {"kid": OURS.kid}),
        jwt.encode({"sub": str(VIDEO), "aud": "playback", "exp": NOW + 60}, OURS.material, "HS256"),
    ],
)
def test_token_is_invalid_when_any_part_of_it_is_wrong(token: str) -> None:
    with pytest.raises(TokenInvalid):
        tokens.read(token, KEYS)


def test_token_is_invalid_when_its_claims_were_altered() -> None:
    header, body, signature = tokens.sign(VIEWER, OURS).split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["maxHeight"] = 2160
    altered = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    with pytest.raises(TokenInvalid):
        tokens.read(f"{header}.{altered}.{signature}", KEYS)


@pytest.mark.parametrize("alg", ["EdDSA", "RS256"])
def test_token_of_a_platform_is_good_with_its_public_key_and_not_with_that_key_as_a_secret(alg: str) -> None:
    private = (
        ed25519.Ed25519PrivateKey.generate()
        if alg == "EdDSA"
        else rsa.generate_private_key(public_exponent=65537, key_size=2048)
    )
    key = PlaybackKey("platform", alg, pem(private))  # type: ignore[arg-type]
    claims = {"sub": str(VIDEO), "aud": "playback", "exp": NOW + 60}
    token = jwt.encode(claims, private, algorithm=alg, headers={"kid": "platform"})
    assert tokens.read(token, {"platform": key}).video_id == VIDEO
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"platform"}').rstrip(b"=")
    body = token.split(".")[1].encode()
    mac = hmac.new(key.material.encode(), head + b"." + body, hashlib.sha256).digest()
    confused = b".".join((head, body, base64.urlsafe_b64encode(mac).rstrip(b"="))).decode()
    with pytest.raises(TokenInvalid):
        tokens.read(confused, {"platform": key})


@pytest.mark.parametrize(
    ("viewer", "error"),
    [
        (replace(VIEWER, expires_at=NOW), TokenExpired),
        (replace(VIEWER, not_before=NOW + 1), TokenInvalid),
        (replace(VIEWER, video_id=uuid4()), TokenNotForThis),
        (replace(VIEWER, generation=1), TokenExpired),
        (replace(VIEWER, generation=3), TokenExpired),
    ],
)
def test_check_refuses_a_token_that_is_expired_or_revoked_or_for_another_video(
    viewer: Viewer, error: type[PlaybackRefused]
) -> None:
    tokens.check(VIEWER, now=NOW, video_id=VIDEO, generation=2)
    with pytest.raises(error):
        tokens.check(viewer, now=NOW, video_id=VIDEO, generation=2)


@pytest.mark.parametrize("address", ["203.0.113.9", "203.0.113.255"])
@pytest.mark.parametrize("origin", [None, "https://site.example", "https://stream.example"])
def test_check_place_accepts_the_networks_and_origins_of_the_token(address: str, origin: str | None) -> None:
    tokens.check_place(VIEWER, address=address, origin=origin, own_origin="https://stream.example")


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("203.0.114.1", None),
        (None, None),
        ("2001:db8::1", None),
        ("203.0.113.9", "https://evil.example"),
        ("203.0.113.9", "null"),
    ],
)
def test_check_place_refuses_every_other(address: str | None, origin: str | None) -> None:
    with pytest.raises(TokenNotForThis):
        tokens.check_place(VIEWER, address=address, origin=origin, own_origin="https://stream.example")


def test_single_ipv6_address_stands_for_its_subscriber() -> None:
    viewer = replace(VIEWER, networks=(tokens.read_network("2001:db8:1:2::7"),), origins=())
    tokens.check_place(viewer, address="2001:db8:1:2:ffff::1", origin=None, own_origin="")
    with pytest.raises(TokenNotForThis):
        tokens.check_place(viewer, address="2001:db8:1:3::1", origin=None, own_origin="")


SCOPE = path_grants.Scope(VIDEO, 2)
CAPS = (1080, 720, 480)


def grant(cap: int | None, *, now: float = NOW, scope: path_grants.Scope = SCOPE) -> str:
    return path_grants.issue(scope, cap, OURS, now=now, duration_seconds=60).text


def test_grant_is_the_same_for_everyone_within_an_hour_and_lasts_twice_as_long_as_the_video() -> None:
    start = NOW // 3600 * 3600
    assert grant(None, now=start + 1) == grant(None, now=start + 3599)
    long = path_grants.issue(SCOPE, None, OURS, now=NOW, duration_seconds=5 * 3600)
    assert NOW + 10 * 3600 <= long.expires_at < NOW + 11 * 3600


def test_grant_covers_renditions_up_to_its_cap() -> None:
    ends = path_grants.check(grant(480), SCOPE, 480, CAPS, KEYS, now=NOW)
    assert ends >= NOW + 6 * 3600
    with pytest.raises(TokenNotForThis):
        path_grants.check(grant(480), SCOPE, 720, CAPS, KEYS, now=NOW)
    path_grants.check(grant(None), SCOPE, 1080, CAPS, KEYS, now=NOW)


@pytest.mark.parametrize(
    ("text", "scope", "error"),
    [
        (grant(None), path_grants.Scope(uuid4(), 2), TokenInvalid),
        (grant(None), path_grants.Scope(VIDEO, 3), TokenInvalid),
        (grant(None, now=NOW - 10 * 3600), SCOPE, TokenExpired),
        (grant(None).replace("own1", "own2"), SCOPE, TokenInvalid),
        (f"{NOW + 10**6}-" + grant(None).split("-", 1)[1], SCOPE, TokenInvalid),
        (grant(None)[:-1] + ("A" if grant(None)[-1] != "A" else "Q"), SCOPE, TokenInvalid),
    ],
)
def test_grant_is_refused_for_another_video_past_its_time_or_altered(
    text: str, scope: path_grants.Scope, error: type[PlaybackRefused]
) -> None:
    with pytest.raises(error):
        path_grants.check(text, scope, 480, CAPS, KEYS, now=NOW)


def test_public_key_fault_names_what_is_wrong() -> None:
    edwards = pem(ed25519.Ed25519PrivateKey.generate())
    assert public_key_fault("EdDSA", edwards) is None
    assert "RSA" in str(public_key_fault("RS256", edwards))
    assert "PEM" in str(public_key_fault("EdDSA", "no key"))
    small = pem(rsa.generate_private_key(public_exponent=65537, key_size=1024))
    assert "2048" in str(public_key_fault("RS256", small))
