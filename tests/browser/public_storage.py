"""Public storage: a web server in front of the bucket that anyone may read, as a CDN would be."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.e2e.system import System

CORS = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Content-Length, Content-Range"}


@asynccontextmanager
async def public_storage(system: System, port: int) -> AsyncIterator[set[str | None]]:
    """Serve the bucket of a system at a port; yield the origins of the requests."""
    origins: set[str | None] = set()
    async with system.s3() as s3:

        async def get(request: web.Request) -> web.Response:
            origins.add(request.headers.get("Origin"))
            wanted = {"Range": request.headers["Range"]} if "Range" in request.headers else {}
            key = request.match_info["key"]
            try:
                found: Any = await s3.get_object(Bucket=system.env["S3_BUCKET"], Key=key, **wanted)
            except ClientError as error:
                return web.Response(status=error.response["ResponseMetadata"]["HTTPStatusCode"], headers=CORS)
            body = await found["Body"].read()
            answer = web.Response(status=206 if wanted else 200, body=body, headers=CORS)
            answer.content_type = found["ContentType"]
            if wanted:
                answer.headers["Content-Range"] = found["ContentRange"]
            return answer

        app = web.Application()
        app.router.add_get("/{key:.+}", get)
        app.router.add_options("/{key:.+}", _preflight)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield origins
        finally:
            await runner.cleanup()


async def _preflight(_: web.Request) -> web.Response:
    return web.Response(status=204, headers=CORS | {"Access-Control-Allow-Headers": "Range"})
