"""A certificate of our own for https servers on this machine."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

OPENSSL = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")


def make_certificate(directory: Path, host: str = "localhost") -> tuple[Path, Path]:
    """Write a certificate for `host` and its key; return both paths."""
    certificate, key = directory / "cert.pem", directory / "key.pem"
    names = ("-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}")
    command = [*OPENSSL, *names, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key
