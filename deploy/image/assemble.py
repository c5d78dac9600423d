"""Put together what the services load, and nothing else: no shell, no package manager, no compiler.

`python3.11 assemble.py TARGET` runs in a stage of the Dockerfile. Below TARGET it makes a directory for each
layer of the image: `system` (Python, tini and every library that something links to), `ffmpeg`, `libraries`
(those of the lock file), `application`, and `work`, the mount point of the work volume. Times are
SOURCE_DATE_EPOCH and byte code is never checked against them, so that the same inputs make the same layers.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sbom import owners_of, write_sbom

if TYPE_CHECKING:
    from sbom import DebianPackage

PACKAGES = ("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "tini")
CERTIFICATES = (Path("/etc/ssl/certs"), Path("/usr/share/ca-certificates"))
OTHER_FILES = (
    *("/etc/debian_version", "/etc/os-release", "/etc/ssl/openssl.cnf", "/usr/lib/os-release"),
    *("/usr/lib/ssl/certs", "/usr/lib/ssl/openssl.cnf"),
)
# Directories of the standard library that no service loads, and extensions that need libraries for terminals.
UNUSED = re.compile(
    r"/usr/(bin/tini-static/|share/(doc|lintian|man|applications|pixmaps|binfmts)/|lib/python3\.11/"
    r"(ensurepip|idlelib|lib2to3|pydoc_data|test|tkinter|turtledemo|__phello__)/"
    r"|lib/python3\.11/lib-dynload/(_curses|_curses_panel|_dbm|_sqlite3|_test\w+|nis|readline|xx\w+)\.)"
)
NOT_LOADED = ("__pycache__", "*.c", "*.h", "*.pxd", "*.pxi", "*.pyx")
AWS_SERVICES = {"s3", "sts", "sso", "sso-oidc", "signin"}  # of the 400 that botocore describes
PLAYER_FILES = ("hls.js/dist/hls.min.js", "hls.js/dist/hls.worker.js", "media-chrome/dist/iife/all.js")
PLAYER_TEXTS = ("package.json", "LICENSE")
USER, GROUP = 10001, 0
LINKED = re.compile(r"(?:=> )?(/\S+) \(0x")


def main(target: Path) -> None:
    """Make the directories of the layers."""
    shutil.rmtree(target, ignore_errors=True)
    _application(target / "application/app")
    _libraries(Path("/opt/venv"), target / "libraries/opt/venv")
    shutil.copytree("/opt/ffmpeg", target / "ffmpeg/opt/ffmpeg", symlinks=True)
    packages = _system(target, target / "system")
    write_sbom(target, packages)
    _work_volume(target / "work/work")
    _compile(target)
    _set_times(target, int(os.environ.get("SOURCE_DATE_EPOCH", "0")))


def _application(app: Path) -> None:
    app.mkdir(parents=True)
    for package in ("shared", "services"):
        shutil.copytree(Path("/app", package), app / package)
    modules = app / "services/streamer/player/node_modules"
    for name in PLAYER_FILES:
        package = name.partition("/")[0]
        for file in (name, *(f"{package}/{text}" for text in PLAYER_TEXTS)):
            (modules / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path("/player", file), modules / file)


def _libraries(venv: Path, target: Path) -> None:
    """Copy the virtual environment without pip, and of botocore's descriptions those that S3 needs."""
    packages = "lib/python3.11/site-packages"
    shutil.copytree(venv, target, symlinks=True, ignore=shutil.ignore_patterns(*NOT_LOADED))
    for path in (target / packages).glob("*"):
        if re.match(r"(pip|setuptools|pkg_resources|_distutils_hack|distutils-precedence)", path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in (target / "bin").iterdir():
        if not path.name.startswith("python"):
            path.unlink()
    for path in (target / packages / "botocore/data").iterdir():
        if path.is_dir() and path.name not in AWS_SERVICES:
            shutil.rmtree(path)


def _system(target: Path, system: Path) -> list[DebianPackage]:
    """Copy Python, tini, certificates, and the libraries that anything in the image links to."""
    for name in ("bin", "lib", "lib64", "sbin"):
        (system / "usr" / name).mkdir(parents=True)
        (system / name).symlink_to(f"usr/{name}")
    for name in ("dev", "etc", "proc", "run", "sys", "tmp", "var/tmp"):
        (system / name).mkdir(parents=True)
    (system / "tmp").chmod(0o1777)
    (system / "var/tmp").chmod(0o1777)
    files = [path for package in PACKAGES for path in _files_of(package)]
    files += [Path(name) for name in OTHER_FILES]
    files += [path for folder in CERTIFICATES for path in folder.rglob("*")]
    for path in files:
        _copy(path, system)
    linked = _linked(target)
    for path in linked:
        _copy(path, system)
    shutil.copytree("/etc/ld.so.conf.d", system / "etc/ld.so.conf.d")
    shutil.copy("/etc/ld.so.conf", system / "etc/ld.so.conf")
    subprocess.run(["/sbin/ldconfig", "-r", str(system)], check=True)
    shutil.rmtree(system / "var/cache", ignore_errors=True)  # of ldconfig, with times in it
    _accounts(system / "etc")
    packages = owners_of([*files, *linked])
    for package in packages:
        package.write_to(system)
    return packages


def _files_of(package: str) -> list[Path]:
    listed = subprocess.run(
        ["dpkg-query", "--listfiles", package], check=True, capture_output=True, text=True
    )
    return [Path(line) for line in listed.stdout.splitlines() if not UNUSED.match(f"{line}/")]


def _copy(path: Path, system: Path) -> None:
    """Copy a file or link to its place, with merged /usr, and what a link points to."""
    real_parent = path.parent.resolve()
    place = system / real_parent.relative_to("/") / path.name
    if path.is_dir() and not path.is_symlink():
        (system / path.resolve().relative_to("/")).mkdir(parents=True, exist_ok=True)
        return
    if place.exists() or place.is_symlink() or UNUSED.match(str(path)):
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, place, follow_symlinks=False)
    if path.is_symlink() and path.exists():
        _copy(real_parent / path.readlink(), system)


def _linked(target: Path) -> list[Path]:
    """Return the libraries outside TARGET that its programs and libraries load, as they name them."""
    found = set()
    for path in target.rglob("*"):
        if path.is_symlink() or not path.is_file() or path.open("rb").read(4) != b"\x7fELF":
            continue
        # Loaded from where it will be: a library of the image finds its neighbours.
        inside = Path("/", *path.relative_to(target).parts[1:])
        listed = subprocess.run(["ldd", str(inside)], capture_output=True, text=True, check=False).stdout
        if "not found" in listed:
            raise SystemExit(f"{inside} links to a library that is missing:\n{listed}")
        found |= {Path(name) for name in LINKED.findall(listed)}
    return sorted(path for path in found if not path.is_relative_to("/opt"))


def _accounts(etc: Path) -> None:
    (etc / "passwd").write_text(
        f"root:x:0:0:root:/tmp:/sbin/nologin\nvod:x:{USER}:{USER}:vod:/tmp:/sbin/nologin\n"
    )
    (etc / "group").write_text(f"root:x:0:\nvod:x:{USER}:\n")
    (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")


def _work_volume(work: Path) -> None:
    """Make the mount point: for the user of the image, and for any user of group 0 (OpenShift)."""
    work.mkdir(parents=True)
    work.chmod(0o775)
    os.chown(work, USER, GROUP)


def _compile(target: Path) -> None:
    for layer, folder in (("system", "usr/lib/python3.11"), ("libraries", "opt"), ("application", "app")):
        compileall.compile_dir(
            target / layer / folder,
            stripdir=str(target / layer),
            quiet=2,
            force=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


def _set_times(target: Path, seconds: int) -> None:
    for path in (*target.rglob("*"), target):
        os.utime(path, (seconds, seconds), follow_symlinks=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
