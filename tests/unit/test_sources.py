from __future__ import annotations

import os
import socket
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from services.transcoder.sources.fetch import Sources, local_path, shown
from services.transcoder.sources.https import HttpsSource
from services.transcoder.sources.public_addresses import PrivateAddress, refuse_private
from services.transcoder.sources.range_reader import Opened
from shared.errors import LimitsExceeded, OutOfDisk, SourceFetchFailed, SourceUnavailable
from shared.workspace import disk_budget
from shared.workspace.disk_budget import DiskBudget
from shared.workspace.layout import WorkDir
from tests.fake_volume import Volume

VIDEO = uuid4()


def opener(*blocks, error=None, size_bytes=None, opened=None):
    @asynccontextmanager
    async def open_(uri):
        if opened is not None:
            opened.append(uri)

        async def read():
            for block in blocks:
                yield block
            if error:
                raise error

        yield Opened(read(), size_bytes)

    return open_


def sources(root, *, reserve_bytes=0, **openers):
    return Sources(WorkDir(root), DiskBudget(root, reserve_bytes), openers, max_bytes=10)


def test_local_path_finds_a_file_when_its_name_is_quoted(tmp_path):
    assert local_path(f"file://{tmp_path}/a%20b.mp4", tmp_path) == tmp_path / "a b.mp4"


@pytest.mark.parametrize(
    "uri", ["file:///etc/passwd", "file:../x", "file://other/x", "file:a/%2e%2e/%2e%2e/b", "file:%00"]
)
def test_local_path_refuses_when_the_file_is_outside(tmp_path, uri):
    with pytest.raises(SourceUnavailable):
        local_path(uri, tmp_path)


def test_local_path_refuses_when_a_link_leads_outside(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "link").symlink_to(tmp_path)
    with pytest.raises(SourceUnavailable, match="outside"):
        local_path("file:link/secret", tmp_path / "work")


async def test_fetch_writes_the_whole_file_when_the_source_is_remote(tmp_path):
    path = await sources(tmp_path, s3=opener(b"abc", b"def")).fetch(VIDEO, "s3://bucket/key")
    assert path == WorkDir(tmp_path).original(VIDEO)
    assert path.read_bytes() == b"abcdef"


async def test_fetch_reads_nothing_again_when_the_original_exists(tmp_path):
    await sources(tmp_path, s3=opener(b"abc")).fetch(VIDEO, "s3://bucket/key")
    path = await sources(tmp_path, s3=opener(error=AssertionError())).fetch(VIDEO, "s3://bucket/key")
    assert path.read_bytes() == b"abc"


async def test_fetch_leaves_the_original_alone_when_another_worker_was_faster(tmp_path):
    original = WorkDir(tmp_path).original(VIDEO)

    @asynccontextmanager
    async def overtaken(_uri):
        async def read():
            yield b"late"
            original.write_bytes(b"early")

        yield Opened(read(), None)

    path = await sources(tmp_path, https=overtaken).fetch(VIDEO, "https://example.org/a.mp4")
    assert path.read_bytes() == b"early"
    assert list(original.parent.iterdir()) == [original]


@pytest.mark.parametrize(
    ("open_", "error"),
    [(opener(b"x" * 11), LimitsExceeded), (opener(b"x", error=SourceFetchFailed("cut")), SourceFetchFailed)],
)
async def test_fetch_leaves_nothing_when_it_fails(tmp_path, open_, error):
    with pytest.raises(error):
        await sources(tmp_path, s3=open_).fetch(VIDEO, "s3://bucket/key")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_fetch_contacts_no_server_when_the_volume_is_too_full(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_budget.os, "statvfs", Volume(tmp_path, 99))
    opened = []
    full = sources(tmp_path, reserve_bytes=100, s3=opener(b"abc", opened=opened))
    with pytest.raises(OutOfDisk):
        await full.fetch(VIDEO, "s3://bucket/key")
    assert (opened, list(tmp_path.rglob("*"))) == ([], [])
    monkeypatch.setattr(disk_budget.os, "statvfs", Volume(tmp_path, 200))
    assert (await full.fetch(VIDEO, "s3://bucket/key")).read_bytes() == b"abc"


async def test_fetch_reads_nothing_when_the_source_is_larger_than_the_free_space(tmp_path, monkeypatch):
    (tmp_path / "other").write_bytes(bytes(6))
    monkeypatch.setattr(disk_budget.os, "statvfs", Volume(tmp_path, 10))
    unread = sources(tmp_path, s3=opener(error=AssertionError("read"), size_bytes=5))
    with pytest.raises(OutOfDisk):
        await unread.fetch(VIDEO, "s3://bucket/key")


async def test_fetch_stops_when_a_source_of_unknown_size_outgrows_the_free_space(tmp_path, monkeypatch):
    (tmp_path / "other").write_bytes(bytes(6))
    monkeypatch.setattr(disk_budget.os, "statvfs", Volume(tmp_path, 10))
    with pytest.raises(OutOfDisk):
        await sources(tmp_path, s3=opener(b"123", b"45")).fetch(VIDEO, "s3://bucket/key")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["other"]


@pytest.mark.parametrize("open_", [opener(size_bytes=9), opener(b"12345", b"6789")])
async def test_fetch_gives_up_when_waiting_cannot_free_enough_space(tmp_path, monkeypatch, open_):
    monkeypatch.setattr(disk_budget.os, "statvfs", Volume(tmp_path, 10))
    with pytest.raises(LimitsExceeded, match="larger than 8 bytes"):
        await sources(tmp_path, reserve_bytes=2, s3=open_).fetch(VIDEO, "s3://bucket/key")


async def test_fetch_reports_a_missing_file(tmp_path):
    with pytest.raises(SourceUnavailable, match="no file"):
        await sources(tmp_path).fetch(VIDEO, "file:nothing.mp4")


@pytest.mark.parametrize("uri", ["file:" + "é" * 128, "file:" + "a/" * 2047 + "a"])
async def test_fetch_refuses_a_path_that_is_too_long_for_any_file(tmp_path, uri):
    with pytest.raises(SourceUnavailable, match="too long"):
        await sources(tmp_path).fetch(VIDEO, uri)


def test_local_path_repeats_no_password(tmp_path):
    with pytest.raises(SourceUnavailable, match="names the host 'other'") as refused:
        local_path("file://user:hunter2@other/x", tmp_path)
    assert "hunter2" not in str(refused.value)


async def test_fetch_names_the_known_schemes_when_this_one_is_unknown(tmp_path):
    with pytest.raises(SourceUnavailable, match="supported: file, s3"):
        await sources(tmp_path, s3=opener()).fetch(VIDEO, "ftp://host/x")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "::1",
        "fe80::1",
        "fd00::1",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "192.0.0.8",
        "100.64.0.1",
        "::7f00:1",
        "::ffff:0:10.0.0.1",
        "64:ff9b::10.0.0.1",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "fec0::1",
        "fe80::1%eth0",
        "ff0e::1",
        "5f00::1",
    ],
)
def test_refuse_private_refuses_when_the_address_is_not_public(address):
    with pytest.raises(PrivateAddress):
        refuse_private(address, "host")


def test_refuse_private_passes_when_the_address_is_public():
    refuse_private("1.1.1.1", "host")
    refuse_private("2606:4700:4700::1111", "host")
    refuse_private("64:ff9b::1.1.1.1", "host")


@pytest.mark.parametrize(
    "uri",
    [
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "https://[::ffff:7f00:1]/x",
        "https://localhost/x",
        "https://2130706433/x",
        "https://0x7f.1/x",
        "https://0177.0.0.1/x",
        "https://①②⑦.⓪.⓪.①/x",
        "https://127。0。0。1/x",
        "https://example.com@127.0.0.1/x",
        "https://example.com\\@127.0.0.1/x",
        "https://[fe80::1%25lo]/x",
        "http://example.com/x",
        "https:///x",
        "https://example.com:99999/x",
    ],
)
async def test_https_source_refuses_when_the_host_is_inside_or_the_url_is_no_https(uri):
    with pytest.raises(SourceUnavailable):
        async with HttpsSource().open(uri):
            pass


@pytest.mark.parametrize(
    ("uri", "seen"),
    [
        ("https://user:pw@host/a.mp4?X-Amz-Signature=abc#x", "'https://host/a.mp4'"),
        ("s3://bucket/a key", "'s3://bucket/a key'"),
        ("file:a.mp4", "'file:a.mp4'"),
    ],
)
def test_shown_hides_credentials_when_a_uri_is_shown(uri, seen):
    assert shown(uri) == seen


async def test_fetch_refuses_when_the_uri_is_broken(tmp_path):
    with pytest.raises(SourceUnavailable, match="not a URI"):
        await sources(tmp_path).fetch(VIDEO, "https://[bad/x")


@pytest.mark.parametrize("kind", ["pipe", "directory", "socket", "dangling link", "circle of links"])
async def test_fetch_refuses_when_a_local_source_is_no_plain_file(tmp_path, kind):
    path = tmp_path / "a.mp4"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "socket":
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(path))
        case "dangling link":
            path.symlink_to(tmp_path / "nothing")
        case _:
            path.symlink_to(path)
    with pytest.raises(SourceUnavailable):
        await sources(tmp_path).fetch(VIDEO, "file:a.mp4")


async def test_path_refuses_when_a_checked_file_was_replaced_by_a_link(tmp_path):
    (tmp_path / "work").mkdir()
    path, ours = tmp_path / "work" / "a.mp4", tmp_path / "secret"
    path.write_bytes(b"film")
    ours.write_bytes(b"secret")
    reader = sources(tmp_path / "work")
    assert await reader.fetch(VIDEO, "file:a.mp4") == path
    path.unlink()
    path.symlink_to(ours)
    with pytest.raises(SourceUnavailable, match="outside"):
        reader.path(VIDEO, "file:a.mp4")
