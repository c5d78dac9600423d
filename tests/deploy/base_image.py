"""The base of every image here: Debian 12 by debootstrap, under the name that the Dockerfile pulls."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.deploy.engine import cache

if TYPE_CHECKING:
    from tests.deploy.engine import Engine

NAME: Final = "debian:bookworm-slim"
SUITE: Final = "bookworm"
CERTIFICATES: Final = "/etc/ssl/certs/ca-certificates.crt"
INSIDE: Final = "/usr/local/share/certificates-of-the-builder.crt"
# What makes the clients of registries work on this machine; the base is in no final image.
PASSED: Final = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "NPM_CONFIG_REGISTRY", "http_proxy", "https_proxy")
MAX_AGE_SECONDS: Final = 30 * 86400
SOURCES: Final = """\
Types: deb
URIs: {mirror}
Suites: {suite} {suite}-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: {mirror}-security
Suites: {suite}-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


def import_base(engine: Engine) -> None:
    """Make the base unless the engine has a fresh one."""
    archive = cache() / f"{SUITE}.tar"
    is_fresh = archive.exists() and time.time() - archive.stat().st_mtime < MAX_AGE_SECONDS
    if is_fresh and engine.has_image(NAME):
        return
    if not is_fresh:
        _debootstrap(archive)
    values = {"PIP_CERT": INSIDE, "NODE_EXTRA_CA_CERTS": INSIDE}
    values |= {name: os.environ[name] for name in PASSED if name in os.environ}
    changes = [word for name, value in values.items() for word in ("--change", f'ENV {name}="{value}"')]
    engine.docker("import", *changes, "--change", 'CMD ["bash"]', str(archive), NAME, seconds=300)


def _debootstrap(archive: Path) -> None:
    folder = archive.with_suffix(".tree")
    shutil.rmtree(folder, ignore_errors=True)
    _run("debootstrap", "--variant=minbase", SUITE, str(folder))
    _use_all_suites(folder / "etc/apt")
    if Path(CERTIFICATES).exists():
        shutil.copy(CERTIFICATES, folder / INSIDE.lstrip("/"))
    shutil.rmtree(folder / "var/cache/apt/archives")
    draft = archive.with_suffix(".draft")
    _run("tar", "--create", "--file", str(draft), "--directory", str(folder), ".")
    draft.rename(archive)
    shutil.rmtree(folder)


def _use_all_suites(apt: Path) -> None:
    """Replace the list that debootstrap wrote by one in the form of Debian's image, with security updates."""
    listed = apt / "sources.list"
    mirror = re.findall(r"^deb (\S+)", listed.read_text(), re.MULTILINE)[0].rstrip("/")
    listed.unlink()
    (apt / "sources.list.d/debian.sources").write_text(SOURCES.format(mirror=mirror, suite=SUITE))


def _run(*argv: str) -> None:
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=900)
    if done.returncode:
        raise RuntimeError(f"{argv[0]} failed:\n{done.stdout.decode(errors='replace')[-3000:]}")
