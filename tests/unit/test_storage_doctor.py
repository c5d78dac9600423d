"""The doctor in front of storages with one thing wrong each: it names that, and what to do."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, SSLError

from shared.storage.doctor import diagnose
from shared.storage.doctor.causes import advice_for, check_of, said
from shared.storage.doctor.findings import Report
from shared.storage.marker import MARKER, Marker
from tests.doctor_cases import CASES, examined
from tests.memory_s3 import MemoryS3
from tests.unit.test_storage_s3 import s3_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.providers.front import Backend

HEALTHY = {
    *("reach", "clock", "list", "region", "credentials", "put", "range", "replace", "multipart"),
    *("open_uploads", "presign", "versioning", "delete", "batch_delete"),
}


@pytest.fixture
def server() -> MemoryS3:
    return MemoryS3()


@pytest.fixture
async def backend(server: MemoryS3) -> AsyncIterator[Backend]:
    async with server.serving() as opened:
        yield opened


def faults_of(report: Report) -> list[tuple[str, str]]:
    return [(each.status, each.check) for each in report.findings if each.status in ("failed", "warning")]


@pytest.mark.parametrize("case", ["nothing listens", "region", "key", "list"])
async def test_doctor_stops_when_the_bucket_cannot_be_listed(
    server: MemoryS3, backend: Backend, tmp_path: Path, case: str
) -> None:
    broken, status, check, advice = CASES[case]
    async with examined(s3_settings, backend, tmp_path, **broken) as examine:
        report = await examine()
    assert faults_of(report) == [(status, check)], report.to_text()
    assert re.search(advice, report.findings[-1].advice), report.to_text()
    assert server.objects == {}


def together(*cases: str) -> dict[str, Any]:
    """Return a storage with several things wrong."""
    broken: dict[str, Any] = {"rules": [], "transforms": []}
    for case in cases:
        for name, value in CASES[case][0].items():
            broken[name] = [*broken[name], *value] if name in ("rules", "transforms") else value
    return broken


@pytest.mark.parametrize(
    "cases",
    [
        ["clock drifts", "stale reads", "uploads", "presign", "private", "versions", "lifecycle", "batches"],
        ["types", "multipart", "cors", "public ranges"],
        ["get", "delete"],
        ["cors of redirects"],
    ],
)
async def test_doctor_names_each_thing_that_is_wrong_and_what_to_do(
    server: MemoryS3, backend: Backend, tmp_path: Path, cases: list[str]
) -> None:
    async with examined(s3_settings, backend, tmp_path, **together(*cases)) as examine:
        report = await examine()
    found = {each.check: each for each in report.findings if each.status in ("failed", "warning")}
    for _, status, check, advice in (CASES[case] for case in cases):
        assert found[check].status == status, report.to_text()
        assert re.search(advice, found[check].advice), report.to_text()
    assert found.keys() - {CASES[case][2] for case in cases} <= {"batch_delete"}, report.to_text()
    if "delete" not in cases:
        assert server.objects == server.uploads == {}, "its test objects are removed"


def refusal(status: int, code: str, **headers: str) -> ClientError:
    answer = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    return ClientError(
        {"Error": {"Code": code, "Message": "because"}, "ResponseMetadata": answer}, "PutObject"
    )


@pytest.mark.parametrize(
    ("error", "check", "advice"),
    [
        (NoCredentialsError(), "credentials", "S3_ACCESS_KEY_ID"),
        (SSLError(endpoint_url="https://s3", error="self-signed"), "tls", "certificate"),
        (EndpointConnectionError(endpoint_url="https://s3"), "reach", "S3_ENDPOINT_URL"),
        (ConnectionRefusedError("refused"), "reach", "S3_ENDPOINT_URL"),
        (refusal(403, "SignatureDoesNotMatch"), "credentials", "S3_SECRET_ACCESS_KEY"),
        (refusal(301, "PermanentRedirect", **{"x-amz-bucket-region": "eu-1"}), "region", "S3_REGION=eu-1"),
        (refusal(507, "QuotaExceeded"), "quota", "make room"),
        (refusal(503, "SlowDown"), "overload", "limits"),
        (refusal(403, "AccessDenied"), "put", "grant s3:PutObject"),
        (refusal(501, "NotImplemented"), "put", "does not support this operation"),
    ],
)
def test_error_belongs_to_the_check_that_explains_it(error: Exception, check: str, advice: str) -> None:
    assert check_of(error, "put") == check
    assert advice in advice_for(check, error, "s3:PutObject")
    assert "\n" not in said(error)


async def test_doctor_finds_nothing_when_all_is_well(
    server: MemoryS3, backend: Backend, tmp_path: Path
) -> None:
    async with examined(s3_settings, backend, tmp_path, public={}) as examine:
        report = await examine()
    assert report.is_healthy, report.to_text()
    assert {each.check for each in report.findings if each.status == "ok"} >= {*HEALTHY, "public_url"}
    assert server.objects == server.uploads == {}


async def test_doctor_writes_rules_for_cors_when_asked(backend: Backend, tmp_path: Path) -> None:
    origins = ["https://play.example"]
    async with examined(s3_settings, backend, tmp_path, public={}, origins=origins) as examine:
        report = await partial(examine, fixes_cors=True)()
    checks = [(each.status, each.check) for each in report.findings if each.check == "cors"]
    written, *tried = checks
    assert written == ("ok", "cors")
    assert tried == [("failed", "cors")] * 2, "this server heeds no rules"


async def test_doctor_reports_a_storage_other_than_the_configured_one(
    server: MemoryS3, backend: Backend, tmp_path: Path
) -> None:
    marker = uuid4()
    server.objects[MARKER] = Marker(marker).to_json(), "application/json"
    async with examined(s3_settings, backend, tmp_path, storage_id=uuid4()) as examine:
        assert (await examine()).failed_checks() == ["identity"]
    async with examined(s3_settings, backend, tmp_path, storage_id=marker) as examine:
        assert (await examine()).is_healthy
        server.objects[MARKER] = Marker(marker, is_shared=True).to_json(), "application/json"
        (warning,) = [each for each in (await examine()).findings if each.status == "warning"]
    assert (warning.check, "storage claim" in warning.advice) == ("identity", True)


def local_settings(work_dir: Path, **values: Any) -> Any:
    return s3_settings(storage_type="local", work_dir=work_dir, **values)


async def test_doctor_examines_a_disk(tmp_path: Path) -> None:
    assert (await diagnose(local_settings(tmp_path))).is_healthy
    assert not [path for path in (tmp_path / "media").rglob("*") if path.is_file()]
    (tmp_path / "file").write_bytes(b"")
    report = await diagnose(local_settings(tmp_path / "file"))
    assert report.failed_checks() == ["put"]
    assert "WORK_DIR" in report.findings[0].advice


async def test_doctor_reads_the_marker_of_a_disk(tmp_path: Path) -> None:
    path, marker = tmp_path / "media" / MARKER, uuid4()
    path.parent.mkdir(parents=True)
    path.write_bytes(Marker(marker).to_json())
    assert (await diagnose(local_settings(tmp_path, storage_id=marker))).is_healthy
    assert (await diagnose(local_settings(tmp_path, storage_id=uuid4()))).failed_checks() == ["identity"]
    path.write_bytes(Marker(marker, is_shared=True).to_json())
    report = await diagnose(local_settings(tmp_path))
    assert [each.check for each in report.findings if each.status == "warning"] == ["identity"]
    path.write_text("no marker")
    assert (await diagnose(local_settings(tmp_path))).failed_checks() == ["identity"]


def test_report_is_a_table_with_the_advice_below_each_finding() -> None:
    report = Report("s3 bucket videos at AWS")
    report.ok("put", "an object was put")
    report.skip("tls", "not encrypted, on this machine")
    report.fail("list", "denied", "allow s3:ListBucket")
    assert report.to_text().splitlines() == [
        "s3 bucket videos at AWS",
        "  ok      put           an object was put",
        "  skipped tls           not encrypted, on this machine",
        "  failed  list          denied",
        "                        allow s3:ListBucket",
        "not healthy",
    ]
    assert [each["advice"] for each in report.to_json()["findings"]] == [None, None, "allow s3:ListBucket"]
