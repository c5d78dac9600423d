"""The image by itself: what is in it, and the whole system run from it under several users."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from typing import TYPE_CHECKING

import aiohttp
import pytest

from devstack.programs import REPOSITORY
from tests.deploy.build import NAME, NVIDIA, STAGE
from tests.deploy.engine import EngineError
from tests.deploy.video_lifecycle import Addresses, walk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.deploy.engine import Engine

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

MOST_BYTES = 200_000_000
LOCKED_DOWN = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp")
PORTS = {"ingest": 8080, "streamer": 8081, "transcoder": 8082, "uploader": 8083}
START_SECONDS = 60.0
STOPPED_SECONDS = 15.0  # a service waits twice as long for its database
SHELLS_AND_TOOLS = re.compile(r"bin/(sh|bash|dash|busybox|apt|apt-get|dpkg|perl|gcc|pip|npm|node)$")
USERS = {
    "as in the image": ("10001:10001", "volume"),
    "any user of group 0, as in OpenShift": ("1000670000:0", "volume"),
    "a volume of that user's without fsGroup, as from NFS": ("10001:10001", "directory"),
}


@pytest.fixture(scope="module")
def files(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tarfile.TarInfo]:
    """Every file of the image by its path."""
    archive = tmp_path_factory.mktemp("image") / "image.tar"
    container = engine.docker("create", NAME).strip()
    engine.docker("export", "--output", str(archive), container)
    engine.docker("rm", container)
    with tarfile.open(archive) as opened:
        return {member.name: member for member in opened}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables of the services: RabbitMQ, Postgres and S3 of devstack, beside the containers."""
    directory = tmp_path_factory.mktemp("stack")
    stack = [sys.executable, "-m", "devstack"]
    subprocess.run([*stack, "up", "--servers-only", "--dir", str(directory)], cwd=REPOSITORY, check=True)
    try:
        words = shlex.split((directory / "env").read_text())
        yield dict(word.split("=", 1) for word in words)
    finally:
        subprocess.run([*stack, "down", "--dir", str(directory)], cwd=REPOSITORY, check=True)


def test_the_image_is_small_and_has_neither_shell_nor_tools(engine, files):
    assert int(engine.docker("inspect", "--format", "{{.Size}}", NAME)) < MOST_BYTES
    assert [name for name in files if SHELLS_AND_TOOLS.search(name)] == []
    with pytest.raises(EngineError, match="executable file not found"):
        engine.docker("run", "--rm", "--network", "none", "--entrypoint", "sh", NAME, "-c", "true")


def test_the_work_volume_belongs_to_the_user_and_group_0(files):
    work = files["work"]
    assert (work.uid, work.gid, work.mode & 0o777) == (10001, 0, 0o775)
    others = [name for name, file in files.items() if file.uid and name != "work"]
    assert others == []
    writable = {name for name, file in files.items() if file.mode & 0o022 and not file.issym()}
    assert writable <= {"work", "tmp", "var/tmp"}


def test_the_image_describes_itself(engine):
    config = json.loads(engine.docker("inspect", "--format", "{{json .Config}}", NAME))
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
    assert set(labels) == {"title", "description", "licenses", "version", "revision"}
    assert re.fullmatch(r"[0-9a-f]{40}", labels["revision"])
    assert config["User"] == "10001:10001"


def test_the_nvidia_target_asks_the_toolkit_for_encoder_and_decoder(engine):
    values = json.loads(engine.docker("inspect", "--format", "{{json .Config.Env}}", NVIDIA))
    assert {"NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,video,utility"} <= set(values)


def test_the_bill_of_materials_has_every_library_and_program(engine):
    text = run(engine, "--entrypoint", "python", args=("-c", READ_SBOM))
    document = json.loads(text)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    known = {
        (each["purl"].partition("/")[0], each["name"], each["version"]) for each in document["components"]
    }
    assert {(kind, name, version) for kind, name, version in known if kind == "pkg:pypi"} == {
        ("pkg:pypi", name, version) for name, version in locked()
    }
    names = {name for _, name, _ in known}
    assert {"ffmpeg", "libc6", "tini", "libx264-164", "libdav1d6", "libzimg2", "libssl3", "hls.js"} <= names


READ_SBOM = "print(open('/usr/share/sbom/vod-pipeline.cdx.json').read())"


def locked() -> set[tuple[str, str]]:
    text = (REPOSITORY / "requirements.lock").read_text()
    return set(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


def test_the_self_test_finds_everything_but_a_gpu(engine):
    with pytest.raises(EngineError) as failed:
        run(engine, args=("services.transcoder.selftest",))
    assert "libcuda.so.1" in str(failed.value) or "Cannot load" in str(failed.value)
    assert "Unknown encoder" not in str(failed.value)


def test_ffmpeg_has_what_the_pipeline_needs(engine):
    def listed(what: str) -> set[str]:
        text = run(engine, "--entrypoint", "ffmpeg", args=("-hide_banner", f"-{what}"))
        return {words[1] for line in text.splitlines() if len(words := line.split()) > 1}

    assert {"h264_nvenc", "libx264", "aac"} <= listed("encoders")
    assert {"libdav1d", "vp8", "vp9", "hevc", "opus", "prores"} <= listed("decoders")
    assert {"zscale", "tonemap", "bwdif", "scale_cuda", "hwupload_cuda"} <= listed("filters")


def run(engine: Engine, *options: str, args: tuple[str, ...]) -> str:
    return engine.docker("run", "--rm", "--network", "none", *LOCKED_DOWN, *options, NAME, *args)


@pytest.mark.parametrize("after_seconds", [0.0, 0.2, 1.0])
def test_a_container_that_is_stopped_while_it_starts_ends_at_once(engine, after_seconds):
    nowhere = (
        "DATABASE_URL=postgresql://x@127.0.0.1:1/x",
        "RABBITMQ_URL=amqp://127.0.0.1:1",
        "WORK_DIR=/tmp",
    )
    options = [word for value in nowhere for word in ("--env", value)]
    started = ("run", "--detach", "--network", "none", *LOCKED_DOWN, *options, NAME, "services.uploader")
    container = engine.docker(*started).strip()
    try:
        time.sleep(after_seconds)
        engine.docker("kill", "--signal", "TERM", container)
        code = int(engine.docker("wait", container, seconds=STOPPED_SECONDS))
        assert code in {0, 128 + signal.SIGTERM}
    finally:
        engine.docker("rm", "--force", container)


@pytest.mark.parametrize("who", USERS)
async def test_a_video_goes_all_the_way(engine, servers, clip, tmp_path, who):
    user, kind = USERS[who]
    volume = make_volume(engine, tmp_path, kind)
    values = {
        **{name: servers[name] for name in servers if name.startswith(("S3_", "DATABASE", "RABBITMQ"))},
        "STORAGE_TYPE": "s3",
        "WORK_DIR": "/work",
        "SANDBOX": "required",
        "ADOPT_WORK_DIR": "true",
        "PUBLIC_STREAM_URL": "http://127.0.0.1:8081",
        "HLS_SEGMENT_SECONDS": "2",
        "CHUNK_SECONDS": "4",
    }
    options = [*LOCKED_DOWN, "--network", "host", "--user", user, "--volume", f"{volume}:/work"]
    options += [word for name, value in values.items() for word in ("--env", f"{name}={value}")]
    for service in PORTS:
        engine.docker("run", "--detach", "--name", service, *options, NAME, f"services.{service}")
    try:
        await asyncio.gather(*(until_ready(port) for port in PORTS.values()))
        made = ("python", "-m", "services.ingest", "create-key", "--scope", "admin", "--name", "test")
        key = engine.docker("exec", "ingest", *made).strip()
        began = time.monotonic()
        await walk(Addresses("http://127.0.0.1:8080", key), clip, tmp_path)
        print(f"{who}: uploaded, played and deleted in {time.monotonic() - began:.0f} s")
        assert active_protections(engine) >= {"landlock", "network"}
    except BaseException:
        for service in PORTS:
            print(service, engine.docker("logs", "--tail", "15", service))
        raise
    finally:
        engine.docker("rm", "--force", "--volumes", *PORTS)


def make_volume(engine: Engine, folder: Path, kind: str) -> str:
    """Return a named volume, which takes the mount point's owner, or a directory that belongs to the user."""
    if kind == "volume":
        return engine.docker("volume", "create").strip()
    directory = folder / "exported"
    directory.mkdir(mode=0o700)
    subprocess.run(["chown", "10001:10001", str(directory)], check=True)
    for above in (folder, *folder.parents):
        if above.stat().st_mode & 0o001 == 0:
            above.chmod(above.stat().st_mode | 0o001)
    return str(directory)


async def until_ready(port: int) -> None:
    async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)


def active_protections(engine: Engine) -> set[str]:
    """Return the parts of the sandbox that the transcoder found to work."""
    lines = [json.loads(line) for line in engine.docker("logs", "transcoder").splitlines() if line[:1] == "{"]
    (found,) = [line for line in lines if line["event"] == "sandbox"]
    return {name for name, value in found.items() if isinstance(value, int) and value > 0}


def test_the_same_inputs_make_the_same_files(engine):
    """The stage that puts the image together makes it again: names, contents, owners, modes, times."""
    command = ("python3.11", "-c", MADE_AGAIN)
    told = engine.docker("run", "--rm", "--network", "none", STAGE, *command, seconds=300)
    count, differing = json.loads(told)
    assert differing == []
    assert count > 1000


MADE_AGAIN = """
import hashlib, json, os, sys
from pathlib import Path
sys.path.insert(0, "/build")
import assemble
os.environ |= {"SOURCE_DATE_EPOCH": "0", "VERSION": "0.1.0"}

def described(root):
    for path in root.rglob("*"):
        stat = path.lstat()
        content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        digest = hashlib.sha256(bytes(content)).hexdigest()
        yield str(path.relative_to(root)), (digest, stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtime)

first = dict(described(Path("/image")))
assemble.main(Path("/second"))
second = dict(described(Path("/second")))
names = first.keys() | second.keys()
print(json.dumps([len(names), sorted(name for name in names if first.get(name) != second.get(name))]))
"""
