"""The doctor in front of storages with one thing wrong each: it names that, and what to do."""

from __future__ import annotations

import re
import ssl
import subprocess
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from aiobotocore.session import get_session
from aiohttp import web

from shared.storage.doctor import diagnose
from shared.storage.marker import MARKER, marker_text
from tests.providers.front import Backend, Front, deny, error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

KEYS = {"key": "secret"}
REGION = "eu-test-1"


@pytest.fixture
async def backend(servers: Any) -> AsyncIterator[Backend]:
    """A bucket of its own on the real server, empty again at the end."""
    bucket = f"doctor-{uuid4().hex[:12]}"
    client = get_session().create_client(
        "s3",
        endpoint_url=servers.s3_endpoint_url,
        region_name=servers.s3_region,
        aws_access_key_id=servers.s3_access_key_id,
        aws_secret_access_key=servers.s3_secret_access_key,
    )
    async with client as s3:
        await s3.create_bucket(Bucket=bucket)
        key_id, secret = servers.s3_access_key_id, servers.s3_secret_access_key
        yield Backend(servers.s3_endpoint_url, servers.s3_region, bucket, key_id, secret)
        for item in (await s3.list_objects_v2(Bucket=bucket)).get("Contents", []):
            await s3.delete_object(Bucket=bucket, Key=item["Key"])
        await s3.delete_bucket(Bucket=bucket)


async def left_in(servers: Any, bucket: str) -> list[str]:
    """Return the keys and open uploads of a bucket."""
    client = get_session().create_client(
        "s3",
        endpoint_url=servers.s3_endpoint_url,
        region_name=servers.s3_region,
        aws_access_key_id=servers.s3_access_key_id,
        aws_secret_access_key=servers.s3_secret_access_key,
    )
    async with client as s3:
        objects = (await s3.list_objects_v2(Bucket=bucket)).get("Contents", [])
        uploads = (await s3.list_multipart_uploads(Bucket=bucket)).get("Uploads", [])
        return [item["Key"] for item in (*objects, *uploads)]


@asynccontextmanager
async def examined(servers: Any, backend: Backend, tmp_path: Path, **broken: Any) -> AsyncIterator[Any]:
    """Yield a function that runs the doctor on a healthy storage but for `broken`."""
    options = {name: broken.pop(name) for name in list(broken) if name in Front.__dataclass_fields__}
    public = broken.pop("public", None)
    origins = broken.pop("origins", ())
    async with AsyncExitStack() as stack:
        front = await stack.enter_async_context(Front(backend, KEYS, REGION, **options))
        settings = {
            "storage_type": "s3",
            "s3_endpoint_url": front.url,
            "s3_region": REGION,
            "s3_bucket": "videos",
            "s3_access_key_id": "key",
            "s3_secret_access_key": "secret",
            "work_dir": tmp_path,
        }
        if public is not None:
            cdn = await stack.enter_async_context(
                Front(backend, KEYS, REGION, **{"allows_anonymous": True, **public})
            )
            settings["s3_public_url"] = f"{cdn.url}/videos"
        made = servers.settings(**(settings | broken))
        yield lambda: diagnose(made, origins=origins)


def answering(status: int, code: str, *operations: str) -> Any:
    def rule(asked: Any) -> web.Response | None:
        return error(status, code) if not operations or asked.operation in operations else None

    return rule


def xml(query: str, text: str) -> Any:
    """Answer a question about the bucket."""

    def rule(asked: Any) -> web.Response | None:
        if query in asked.query and not asked.key:
            return web.Response(text=text, content_type="application/xml")
        return None

    return rule


def no_multipart(asked: Any) -> web.Response | None:
    return error(501, "NotImplemented") if asked.method == "POST" and "uploads" in asked.query else None


def no_batches(asked: Any) -> web.Response | None:
    return error(400, "MalformedXML") if asked.method == "POST" and "delete" in asked.query else None


def without_ranges(asked: Any, status: int, headers: dict[str, str], body: bytes) -> Any:
    return (200, {**headers, "Content-Range": ""}, bytes(2048)) if status == 206 else (status, headers, body)


def without_type(asked: Any, status: int, headers: dict[str, str], body: bytes) -> Any:
    kept = {name: value for name, value in headers.items() if name.lower() != "content-type"}
    return status, {**kept, "Content-Type": "application/octet-stream"}, body


class Stale:
    """Serves every object as it was when it was first read or put."""

    def __init__(self) -> None:
        self.first: dict[str, bytes] = {}

    def __call__(self, asked: Any) -> web.Response | None:
        if asked.method == "PUT" and asked.key and not asked.query:
            self.first.setdefault(asked.key, asked.body)
        if asked.method == "GET" and asked.key.endswith("probe_002.ts"):
            headers = {"ETag": '"x"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
            return web.Response(body=self.first[asked.key], headers=headers)
        return None


VERSIONED = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
EXPIRING = (
    "<LifecycleConfiguration><Rule><ID>tidy</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>"
    "<Expiration><Days>30</Days></Expiration></Rule></LifecycleConfiguration>"
)
CASES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "nobody listens": ({"s3_endpoint_url": "http://127.0.0.1:1"}, "failed", "reach", "S3_ENDPOINT_URL"),
    "clock": ({"clock_offset": timedelta(minutes=20)}, "failed", "clock", "NTP"),
    "clock drifts": ({"clock_offset": timedelta(minutes=3)}, "warning", "clock", "NTP"),
    "key": ({"s3_access_key_id": "other"}, "failed", "credentials", "S3_ACCESS_KEY_ID"),
    "secret": ({"s3_secret_access_key": "other"}, "failed", "credentials", "S3_SECRET_ACCESS_KEY"),
    "token": (
        {"s3_session_token": "t", "rules": [answering(400, "ExpiredToken")]},
        "failed",
        "credentials",
        "S3_SESSION_TOKEN",
    ),
    "region": ({"s3_region": "us-east-1"}, "failed", "region", f"S3_REGION={REGION}"),
    "bucket": ({"s3_bucket": "nothing"}, "failed", "bucket", "S3_BUCKET"),
    "list": ({"rules": [deny("ListBucket")]}, "failed", "list", "s3:ListBucket"),
    "put": ({"rules": [deny("PutObject")]}, "failed", "put", "s3:PutObject"),
    "get": ({"rules": [deny("GetObject")]}, "failed", "range", "s3:GetObject"),
    "delete": ({"rules": [deny("DeleteObject")]}, "failed", "delete", "s3:DeleteObject"),
    "uploads": (
        {"rules": [deny("ListBucketMultipartUploads")]},
        "failed",
        "open_uploads",
        "s3:ListBucketMultipartUploads",
    ),
    "quota": (
        {"rules": [answering(507, "InsufficientStorage", "PutObject")]},
        "failed",
        "quota",
        "make room",
    ),
    "overload": ({"rules": [answering(503, "SlowDown", "PutObject")]}, "failed", "overload", "limits"),
    "multipart": ({"rules": [no_multipart]}, "failed", "multipart", "lacks this operation"),
    "batches": ({"rules": [no_batches]}, "warning", "batch_delete", "a request of its own"),
    "stale reads": ({"rules": [Stale()]}, "failed", "replace", "caches"),
    "ranges": ({"transforms": [without_ranges]}, "failed", "range", "ranges"),
    "types": ({"transforms": [without_type]}, "failed", "range", "Content-Type"),
    "versions": ({"rules": [xml("versioning", VERSIONED)]}, "warning", "versioning", "S3_DELETE_VERSIONS"),
    "lifecycle": ({"rules": [xml("lifecycle", EXPIRING)]}, "failed", "lifecycle", "other prefixes"),
    "private": ({"public": {"allows_anonymous": False}}, "failed", "public_url", "anonymous reads"),
    "public ranges": ({"public": {"transforms": [without_ranges]}}, "failed", "public_url", "Range"),
    "public types": ({"public": {"transforms": [without_type]}}, "failed", "public_url", "Content-Type"),
    "another bucket": ({"public": {"bucket": "else"}}, "failed", "public_url", "this very bucket"),
    "cors": ({"public": {}, "origins": ["https://play.example"]}, "failed", "cors", "--fix-cors"),
    "presign": (
        {"s3_presign_endpoint_url": "http://127.0.0.1:1"},
        "failed",
        "presign",
        "S3_PRESIGN_ENDPOINT_URL",
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_doctor_names_what_is_wrong_and_what_to_do(
    servers: Any, backend: Backend, tmp_path: Path, case: str
) -> None:
    broken, status, check, advice = CASES[case]
    async with examined(servers, backend, tmp_path, **broken) as examine:
        report = await examine()
    wrong = [each for each in report.findings if each.status in ("failed", "warning")]
    assert [(each.status, each.check) for each in wrong][0:1] == [(status, check)], report.to_text()
    assert re.search(advice, wrong[0].advice), report.to_text()
    related = {"delete": {"delete", "batch_delete"}, "token": {"credentials"}}.get(case, {check})
    assert {each.check for each in wrong} <= related, report.to_text()
    assert report.is_healthy == (status == "warning")
    if case != "delete":
        assert await left_in(servers, backend.bucket) == []


async def test_doctor_finds_nothing_when_all_is_well(servers: Any, backend: Backend, tmp_path: Path) -> None:
    async with examined(servers, backend, tmp_path, public={}) as examine:
        report = await examine()
    assert report.is_healthy, report.to_text()
    done = {each.check for each in report.findings if each.status == "ok"}
    assert done >= {"reach", "region", "credentials", "put", "range", "replace", "list", "multipart"}
    assert done >= {"open_uploads", "presign", "public_url", "delete", "batch_delete", "versioning"}
    assert report.to_json()["healthy"] is True
    assert await left_in(servers, backend.bucket) == []


async def test_doctor_names_another_storage_than_the_configured_one(
    servers: Any, backend: Backend, tmp_path: Path
) -> None:
    marker = uuid4()
    client = get_session().create_client(
        "s3",
        endpoint_url=backend.url,
        region_name=backend.region,
        aws_access_key_id=backend.key_id,
        aws_secret_access_key=backend.secret,
    )
    async with client as s3:
        await s3.put_object(Bucket=backend.bucket, Key=MARKER, Body=marker_text(marker).encode())
    async with examined(servers, backend, tmp_path, storage_id=uuid4()) as examine:
        report = await examine()
    assert report.failed_checks() == ["identity"]
    async with examined(servers, backend, tmp_path, storage_id=marker) as examine:
        assert (await examine()).is_healthy


def self_signed(directory: Path) -> ssl.SSLContext:
    """Return the TLS side of a server whose certificate no authority has signed."""
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    key, certificate = directory / "key", directory / "certificate"
    files = ["-keyout", str(key), "-out", str(certificate)]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *files, *subject]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def test_doctor_names_a_certificate_that_nobody_vouches_for(
    servers: Any, backend: Backend, tmp_path: Path
) -> None:
    context = self_signed(tmp_path)

    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response()

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://localhost:{runner.addresses[0][1]}"
    try:
        async with examined(servers, replace(backend), tmp_path, s3_endpoint_url=url) as examine:
            report = await examine()
    finally:
        await runner.cleanup()
    assert report.failed_checks() == ["tls"], report.to_text()
    assert "SSL_CERT_FILE" in report.findings[0].advice


async def test_doctor_examines_a_disk(servers: Any, tmp_path: Path) -> None:
    settings = servers.settings(work_dir=tmp_path)
    assert (await diagnose(settings)).is_healthy
    assert not [path for path in (tmp_path / "media").rglob("*") if path.is_file()]
    (tmp_path / "file").write_bytes(b"")
    report = await diagnose(settings.model_copy(update={"work_dir": tmp_path / "file"}))
    assert report.failed_checks() == ["put"]
    assert "WORK_DIR" in report.findings[0].advice
