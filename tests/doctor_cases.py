"""Storages that each have one fault, and the finding that the doctor must report."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web

from shared.storage.doctor import diagnose
from tests.providers.front import Front, deny, error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.providers.front import Backend

KEYS = {"key": "secret"}
REGION = "eu-test-1"


@asynccontextmanager
async def examined(settings_of: Any, backend: Backend, tmp_path: Path, **broken: Any) -> AsyncIterator[Any]:
    """Yield a function that runs the doctor on a storage that is healthy except for `broken`.

    `settings_of` makes settings from the values that are given.
    """
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
        made = settings_of(**(settings | broken))
        yield partial(diagnose, made, origins=origins)


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


def allowing(origin: str) -> Any:
    def transform(asked: Any, status: int, headers: dict[str, str], body: bytes) -> Any:
        return status, {**headers, "Access-Control-Allow-Origin": origin}, body

    return transform


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
    "nothing listens": ({"s3_endpoint_url": "http://127.0.0.1:1"}, "failed", "reach", "S3_ENDPOINT_URL"),
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
    "multipart": ({"rules": [no_multipart]}, "failed", "multipart", "does not support this operation"),
    "batches": ({"rules": [no_batches]}, "warning", "batch_delete", "one by one"),
    "stale reads": ({"rules": [Stale()]}, "failed", "replace", "caches"),
    "ranges": ({"transforms": [without_ranges]}, "failed", "range", "ranges"),
    "types": ({"transforms": [without_type]}, "failed", "range", "Content-Type"),
    "versions": ({"rules": [xml("versioning", VERSIONED)]}, "warning", "versioning", "S3_DELETE_VERSIONS"),
    "lifecycle": ({"rules": [xml("lifecycle", EXPIRING)]}, "failed", "lifecycle", "other prefixes"),
    "private": ({"public": {"allows_anonymous": False}}, "failed", "public_url", "anonymous reads"),
    "public ranges": ({"public": {"transforms": [without_ranges]}}, "failed", "public_url", "Range"),
    "public types": ({"public": {"transforms": [without_type]}}, "failed", "public_url", "Content-Type"),
    "another bucket": ({"public": {"bucket": "else"}}, "failed", "public_url", "this bucket"),
    "cors of redirects": (
        {"public": {"transforms": [allowing("https://play.example")]}, "origins": ["https://play.example"]},
        "failed",
        "cors",
        "any origin",
    ),
    "cors": ({"public": {}, "origins": ["https://play.example"]}, "failed", "cors", "--fix-cors"),
    "presign": (
        {"s3_presign_endpoint_url": "http://127.0.0.1:1"},
        "failed",
        "presign",
        "S3_PRESIGN_ENDPOINT_URL",
    ),
}
