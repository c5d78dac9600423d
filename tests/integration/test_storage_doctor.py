"""The doctor in front of storages with one thing wrong each: it names that, and what to do."""

from __future__ import annotations

import re
import ssl
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from aiobotocore.session import get_session
from aiohttp import web

from shared.storage.doctor import diagnose
from shared.storage.marker import MARKER, Marker
from tests.doctor_cases import CASES, examined
from tests.providers.front import Backend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def backend(servers: Any) -> AsyncIterator[Backend]:
    """A separate bucket on the real server, emptied at the end."""
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


@pytest.mark.parametrize("case", CASES)
async def test_doctor_names_what_is_wrong_and_what_to_do(
    servers: Any, backend: Backend, tmp_path: Path, case: str
) -> None:
    broken, status, check, advice = CASES[case]
    async with examined(servers.settings, backend, tmp_path, **broken) as examine:
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
    async with examined(servers.settings, backend, tmp_path, public={}) as examine:
        report = await examine()
    assert report.is_healthy, report.to_text()
    done = {each.check for each in report.findings if each.status == "ok"}
    assert done >= {"reach", "region", "credentials", "put", "range", "replace", "list", "multipart"}
    assert done >= {"open_uploads", "presign", "public_url", "delete", "batch_delete", "versioning"}
    assert report.to_json()["healthy"] is True
    assert await left_in(servers, backend.bucket) == []


async def test_doctor_reports_a_storage_other_than_the_configured_one(
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
        await s3.put_object(Bucket=backend.bucket, Key=MARKER, Body=Marker(marker).to_json())
    async with examined(servers.settings, backend, tmp_path, storage_id=uuid4()) as examine:
        report = await examine()
    assert report.failed_checks() == ["identity"]
    async with examined(servers.settings, backend, tmp_path, storage_id=marker) as examine:
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


async def test_doctor_reports_an_untrusted_certificate(
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
        async with examined(servers.settings, replace(backend), tmp_path, s3_endpoint_url=url) as examine:
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
