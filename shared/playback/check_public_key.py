"""Validates public keys registered by platforms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

if TYPE_CHECKING:
    from shared.playback.models import Algorithm

MIN_RSA_BITS = 2048  # RFC 7518, section 3.3


def public_key_fault(alg: Algorithm, pem: str) -> str | None:
    """Return what is wrong with a public key for an algorithm; None when it is valid."""
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, TypeError):
        return "must be a public key in PEM (-----BEGIN PUBLIC KEY-----)"
    if alg == "EdDSA":
        return None if isinstance(key, Ed25519PublicKey) else "EdDSA needs an Ed25519 key"
    if not isinstance(key, RSAPublicKey):
        return "RS256 needs an RSA key"
    return None if key.key_size >= MIN_RSA_BITS else f"an RSA key needs at least {MIN_RSA_BITS} bits"
