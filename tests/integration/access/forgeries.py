"""Credentials that must not work: forged, expired, or for something else."""

from __future__ import annotations

import time
from base64 import urlsafe_b64encode
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.playback import path_grants, tokens
from shared.playback.models import PlaybackKey, Viewer

if TYPE_CHECKING:
    from uuid import UUID

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    from shared.playback.models import Algorithm

FAR = 2**33
SITE, ELSEWHERE = "https://site.example", "https://evil.example"
ADDRESS = "203.0.113.7"  # of a viewer to whom a token is bound


def _pem(public: Any) -> str:
    return str(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


ED25519 = Ed25519PrivateKey.generate()
RSA = generate_private_key(public_exponent=65537, key_size=2048)
RSA_PUBLIC: RSAPublicKey = RSA.public_key()
PLATFORM_KEYS: tuple[tuple[str, Algorithm, str], ...] = (
    ("platform_ed", "EdDSA", _pem(ED25519.public_key())),
    ("platform_rsa", "RS256", _pem(RSA_PUBLIC)),
)


def _part(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()


def _hs256(head: dict[str, Any], claims: dict[str, Any], secret: bytes) -> str:
    """Sign by hand: the library refuses a public key as an HMAC secret."""
    text = ".".join(_part(jwt.utils.force_bytes(_json(each))) for each in (head, claims))
    mac = HMAC(secret, SHA256())
    mac.update(text.encode())
    return f"{text}.{_part(mac.finalize())}"


def _json(value: dict[str, Any]) -> str:
    inner = ",".join(
        f'"{name}":{item if isinstance(item, int) else chr(34) + item + chr(34)}'
        for name, item in value.items()
    )
    return f"{{{inner}}}"


def _viewer(video_id: UUID, key: PlaybackKey, generation: int) -> Viewer:
    return Viewer(video_id, key.kid, int(time.time()) + 3600, generation)


def good_token(video_id: UUID, key: PlaybackKey, gen: int, **changes: Any) -> str:
    """Return a valid token, except for `changes`."""
    return tokens.sign(replace(_viewer(video_id, key, gen), **changes), key)


def forged_tokens(video_id: UUID, key: PlaybackKey, generation: int) -> dict[str, str]:
    """Return tokens that anyone can make who has seen public keys and a good token for another video."""
    claims = {"sub": str(video_id), "aud": "playback", "exp": FAR, "gen": generation}
    good = good_token(video_id, key, generation)
    head, body, mac = good.split(".")
    other_body = _part(_json(claims | {"maxHeight": 2160}).encode())
    made = {
        "alg none": jwt.encode(claims, "", "none", {"kid": key.kid}),
        "alg None": f"{_part(_json({'alg': 'None', 'kid': key.kid}).encode())}.{body}.",
        "no signature": f"{head}.{body}.",
        "two parts": f"{head}.{body}",
        "altered claims": f"{head}.{other_body}.{mac}",
        "altered signature": f"{head}.{body}.{mac[:-4]}{'AAAA' if mac[-4:] != 'AAAA' else 'BBBB'}",
        "unknown kid": jwt.encode(claims, "x" * 64, "HS256", {"kid": "own000000000000"}),
        "no kid": jwt.encode(claims, "x" * 64, "HS256"),
        "kid as path": jwt.encode(claims, "x" * 64, "HS256", {"kid": "../../etc/passwd"}),
        "own kid, another secret": jwt.encode(claims, "x" * 64, "HS256", {"kid": key.kid}),
        "RS256 under our kid": jwt.encode(claims, RSA, "RS256", {"kid": key.kid}),
        "EdDSA under the RSA kid": jwt.encode(claims, ED25519, "EdDSA", {"kid": "platform_rsa"}),
        "garbage": "not-a-token-at-all-but-long",
        "dots": "a.b.c",
        "endless": f"{head}.{body}{'A' * 5000}.{mac}",
    }
    for kid, _, pem in PLATFORM_KEYS:
        confused = {"alg": "HS256", "kid": kid, "typ": "JWT"}
        made[f"HS256 with the public key {kid}"] = _hs256(confused, claims, pem.encode())
        made[f"HS256 with its text {kid}"] = _hs256(confused, claims, pem.strip().encode())
    return made


def outdated_tokens(video_id: UUID, key: PlaybackKey, generation: int) -> dict[str, tuple[str, str]]:
    """Return tokens that we signed, and for which reason they are refused."""
    changes: dict[str, tuple[dict[str, Any], str]] = {
        "expired": ({"expires_at": int(time.time()) - 1}, "token_expired"),
        "not yet": ({"not_before": FAR}, "token_invalid"),
        "revoked": ({"generation": generation - 1}, "token_expired"),
        "of a later generation": ({"generation": generation + 1}, "token_expired"),
        "another address": ({"networks": (tokens.read_network(ADDRESS),)}, "token_not_for_this"),
        "another site": ({"origins": (SITE,)}, "token_not_for_this"),
    }
    made = {
        name: (good_token(video_id, key, generation, **change), why)
        for name, (change, why) in changes.items()
    }
    wrong_claims: dict[str, dict[str, Any]] = {
        "another audience": {"sub": str(video_id), "aud": "upload", "exp": FAR},
        "no audience": {"sub": str(video_id), "exp": FAR},
        "no end": {"sub": str(video_id), "aud": "playback"},
        "no video": {"aud": "playback", "exp": FAR},
    }
    for name, claims in wrong_claims.items():
        text = jwt.encode(claims | {"gen": generation}, key.material, "HS256", {"kid": key.kid})
        made[name] = (text, "token_invalid")
    return made


def grant(video_id: UUID, key: PlaybackKey, generation: int, *, cap: int | None = None, age: int = 0) -> str:
    """Return the grant that a playlist named `age` seconds ago."""
    scope = path_grants.Scope(video_id, generation)
    return path_grants.issue(scope, cap, key, now=time.time() - age, duration_seconds=30.0).text


def wrong_grants(
    video_id: UUID, other: UUID, key: PlaybackKey, generation: int
) -> dict[str, tuple[str, str]]:
    """Return grants that do not cover 720p of a video now, and for which reason they are refused."""
    good = grant(video_id, key, generation)
    ends, kid, mac = good.split("-", 2)
    platform = PlaybackKey("platform_ed", "EdDSA", PLATFORM_KEYS[0][2])
    return {
        "of another video": (grant(other, key, generation), "token_invalid"),
        "past its time": (grant(video_id, key, generation, age=86_400), "token_expired"),
        "prolonged": (f"{int(ends) + 3600}-{kid}-{mac}", "token_invalid"),
        "altered": (f"{ends}-{kid}-{'A' * 22}", "token_invalid"),
        "of an unknown key": (f"{ends}-own000000000000-{mac}", "token_invalid"),
        "of a public key": (grant(video_id, platform, generation), "token_invalid"),
        "of another secret": (grant(video_id, replace(key, material="x" * 64), generation), "token_invalid"),
        "revoked": (grant(video_id, key, generation - 1), "token_invalid"),
        "for 360p": (grant(video_id, key, generation, cap=360), "token_not_for_this"),
    }
