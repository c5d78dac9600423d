"""Ceph of Debian, unpacked and not installed: a monitor, one OSD in memory, and the RADOS gateway.

python -m tests.providers.ceph install
python -m tests.providers.ceph run DIRECTORY PORT
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from tests.providers.catalogue import CACHE, KEY, SECRET
from tests.providers.server import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = CACHE / "ceph"
LIBRARIES = ROOT / "usr" / "lib" / "x86_64-linux-gnu"
PACKAGES = (
    *("ceph-base", "ceph-common", "ceph-mon", "ceph-osd", "radosgw", "libcephfs2", "librados2", "librbd1"),
    *("libradosstriper1", "librgw2", "libfmt9", "libfuse2", "libibverbs1", "librdmacm1", "libnl-3-200"),
    *("libnl-route-3-200", "libgoogle-perftools4", "libtcmalloc-minimal4", "liblua5.3-0", "liboath0"),
    *("libaio1", "libleveldb1d", "libpmem1", "libdaxctl1", "libndctl6", "libboost-context1.74.0"),
    *("libboost-iostreams1.74.0", "libboost-program-options1.74.0", "libboost-thread1.74.0"),
)
CONFIG = """
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{monitor_port}/0]
keyring = {home}/keyring
run_dir = {home}
log_file = {home}/$name.log
mon_cluster_log_to_file = false
admin_socket = {home}/$name.asok
pid_file = {home}/$name.pid
crash_dir = {home}
plugin_dir = {libraries}/ceph
erasure_code_dir = {libraries}/ceph/erasure-code
osd_class_dir = {libraries}/rados-classes
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_data = {home}/mon
osd_data = {home}/osd
osd_objectstore = memstore
memstore_device_bytes = 4294967296
ms_bind_ipv6 = false
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
rgw_frontends = beast endpoint=127.0.0.1:{port}
rgw_thread_pool_size = 32
"""


def install() -> None:
    """Unpack the packages below ROOT."""
    ROOT.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT.parent) as folder:
        subprocess.run(["apt-get", "download", *PACKAGES], cwd=folder, check=True)
        for package in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), f"{folder}/root"], check=True)
        Path(folder, "root").rename(ROOT)


def serve(home: Path, port: int) -> None:
    """Run a cluster until the gateway ends, or this process is terminated."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    fsid = str(uuid4())
    names = {"fsid": fsid, "home": home, "libraries": LIBRARIES, "port": port, "monitor_port": free_port()}
    config = home / "ceph.conf"
    config.write_text(CONFIG.format(**names))
    for name in ("mon", "osd"):
        (home / name).mkdir()
    ring = str(home / "keyring")
    _run("ceph-authtool", ring, "--create-keyring")
    for who in ("mon.", "client.admin", "osd.0"):
        rights = ("--cap", "mon", "allow *", "--cap", "osd", "allow *")
        _run("ceph-authtool", ring, "--gen-key", "-n", who, *rights)
    address = f"[v2:127.0.0.1:{names['monitor_port']}]"
    _run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, str(home / "monmap"))
    monitor = ("ceph-mon", "-c", str(config), "-i", "a")
    osd = ("ceph-osd", "-c", str(config), "-i", "0")
    _run(*monitor, "--mkfs", "--monmap", str(home / "monmap"), "--keyring", ring)
    with ExitStack() as stack:
        stack.enter_context(_running(*monitor, "-f"))
        _run(*osd, "--mkfs", "--osd-uuid", str(uuid4()))
        stack.enter_context(_running(*osd, "-f"))
        admin = ("-c", str(config), "-n", "client.admin")
        keys = ("--access-key", KEY, "--secret-key", SECRET)
        _run("radosgw-admin", *admin, "user", "create", "--uid=vod", "--display-name=vod", *keys)
        gateway = stack.enter_context(_running("radosgw", *admin, "-f"))
        gateway.wait()


def _environment() -> dict[str, str]:
    folders = (LIBRARIES, LIBRARIES / "ceph", ROOT / "lib" / "x86_64-linux-gnu")
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, folders))}


def _run(program: str, *arguments: str) -> None:
    subprocess.run([str(ROOT / "usr" / "bin" / program), *arguments], env=_environment(), check=True)


@contextmanager
def _running(program: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([str(ROOT / "usr" / "bin" / program), *arguments], env=_environment())
    try:
        yield process
    finally:
        process.kill()  # nothing of it is kept
        process.wait()


def main(arguments: Sequence[str]) -> int:
    """Install, or run."""
    match arguments:
        case ["install"]:
            install()
        case ["run", home, port]:
            serve(Path(home), int(port))
        case _:
            sys.stderr.write(f"{__doc__}\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
