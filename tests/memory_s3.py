"""An S3 server in memory for `Front` (tests/providers) to run in front of: one bucket, no signatures."""

from __future__ import annotations

import hashlib
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from aiohttp import web

from tests.providers.front import Backend, error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

RANGE = re.compile(r"bytes=(\d+)-(\d*)")
KEY = re.compile(r"<Key>(.*?)</Key>")


@dataclass
class MemoryS3:
    """The objects and open uploads of one bucket, by key and by upload id."""

    bucket: str = "behind"
    objects: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    uploads: dict[str, tuple[str, str, dict[int, bytes]]] = field(default_factory=dict)
    ids: Iterator[int] = field(default_factory=lambda: count(1))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Backend]:
        """Serve; yield what a front needs to know."""
        runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield Backend(url, "eu-test-1", self.bucket, "key", "secret")
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = b"".join([data async for data in request.content.iter_any()])
        bucket, _, key = request.path.lstrip("/").partition("/")
        if bucket != self.bucket:
            return error(404, "NoSuchBucket")
        if not key:
            return self._of_bucket(request, body)
        return self._of_upload(request, key, body) or self._of_object(request, key, body)

    def _of_bucket(self, request: web.BaseRequest, body: bytes) -> web.Response:
        if request.method == "POST" and "delete" in request.query:
            for key in KEY.findall(body.decode()):
                self.objects.pop(key, None)
            return _xml("<DeleteResult/>")
        if "versioning" in request.query:
            return _xml("<VersioningConfiguration/>")
        if "lifecycle" in request.query:
            return error(404, "NoSuchLifecycleConfiguration")
        if "uploads" in request.query:
            return _xml(f"<ListMultipartUploadsResult>{self._open_uploads()}</ListMultipartUploadsResult>")
        if request.method == "PUT":
            return web.Response()
        return self._listing(request.query.get("prefix", ""), int(request.query.get("max-keys", 1000)))

    def _listing(self, prefix: str, most: int) -> web.Response:
        found = [key for key in sorted(self.objects) if key.startswith(prefix)][:most]
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.objects[key][0])}</Size>"
            f"<ETag>{_etag(self.objects[key][0])}</ETag><LastModified>{_now()}</LastModified></Contents>"
            for key in found
        )
        return _xml(f"<ListBucketResult><KeyCount>{len(found)}</KeyCount>{contents}</ListBucketResult>")

    def _open_uploads(self) -> str:
        return "".join(
            f"<Upload><Key>{key}</Key><UploadId>{upload}</UploadId><Initiated>{_now()}</Initiated></Upload>"
            for upload, (key, _, _) in self.uploads.items()
        )

    def _of_upload(self, request: web.BaseRequest, key: str, body: bytes) -> web.Response | None:
        kind = request.headers.get("Content-Type", "binary/octet-stream")
        if request.method == "POST" and "uploads" in request.query:
            upload = f"upload-{next(self.ids)}"
            self.uploads[upload] = (key, kind, {})
            named = f"<Key>{key}</Key><UploadId>{upload}</UploadId>"
            return _xml(f"<InitiateMultipartUploadResult>{named}</InitiateMultipartUploadResult>")
        upload = request.query.get("uploadId", "")
        if upload not in self.uploads:
            return error(404, "NoSuchUpload") if upload else None
        if request.method == "PUT":
            self.uploads[upload][2][int(request.query["partNumber"])] = body
            return web.Response(headers={"ETag": _etag(body)})
        _, kind, parts = self.uploads.pop(upload)
        if request.method == "DELETE":
            return web.Response(status=204)
        self.objects[key] = b"".join(parts[number] for number in sorted(parts)), kind
        return _xml(f"<CompleteMultipartUploadResult><Key>{key}</Key></CompleteMultipartUploadResult>")

    def _of_object(self, request: web.BaseRequest, key: str, body: bytes) -> web.Response:
        if request.method == "PUT":
            self.objects[key] = body, request.headers.get("Content-Type", "binary/octet-stream")
            return web.Response(headers={"ETag": _etag(body)})
        if request.method == "DELETE":
            self.objects.pop(key, None)
            return web.Response(status=204)
        if key not in self.objects:
            return error(404, "NoSuchKey")
        content, kind = self.objects[key]
        headers = {"Content-Type": kind, "ETag": _etag(content), "Last-Modified": _now("%a, %d %b %Y %T GMT")}
        if asked := RANGE.fullmatch(request.headers.get("Range", "")):
            end = min(int(asked[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {asked[1]}-{end}/{len(content)}"
            return web.Response(status=206, body=content[int(asked[1]) : end + 1], headers=headers)
        return web.Response(body=content, headers=headers)


def _xml(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/xml")


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'  # as S3 does


def _now(how: str = "%Y-%m-%dT%H:%M:%SZ") -> str:
    return f"{datetime.now(UTC):{how}}"
