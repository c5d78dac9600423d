"""Checks access by players: presigned URLs, and the public URL with type, ranges and CORS."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import aiohttp

from shared.storage.doctor.objects import BODY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.storage.doctor.run_context import Probe

HTTP_SECONDS: Final = 15.0
TYPE: Final = "video/mp2t"
RANGE: Final = {"Range": "bytes=0-9"}
REDIRECTED: Final = "null"  # the origin of a request that a redirect led here from a third site
NAMES_IN_CORS: Final = ["Content-Length", "Content-Range", "ETag"]


async def check_players(probe: Probe) -> None:
    """Fetch as players do, without credentials."""
    key = f"{probe.prefix}/probe_001.ts"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=HTTP_SECONDS)) as session:
        await _presigned(probe, session, key)
        if not probe.settings.s3_public_url:
            probe.report.skip("public_url", "S3_PUBLIC_URL is not set: players are served by the streamer")
            return
        await _public(probe, session, f"{probe.storage.public_base_url}/{key}")
        if probe.fixes_cors:
            await _fix_cors(probe)
        for origin in (*probe.origins, REDIRECTED) if probe.origins else ():
            await _cors(probe, session, f"{probe.storage.public_base_url}/{key}", origin)


async def _presigned(probe: Probe, session: aiohttp.ClientSession, key: str) -> None:
    advice = "set S3_PRESIGN_ENDPOINT_URL to the S3 endpoint that players reach (no custom domain)"
    try:
        sign = await probe.storage.presigner(at=datetime.now(UTC), seconds=60)
        async with session.get(sign(key)) as answer:
            body = await answer.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        probe.report.fail("presign", f"a presigned URL cannot be fetched: {error!r}", advice)
        return
    if answer.status != 200 or body != BODY:
        probe.report.fail("presign", f"a presigned URL answers {answer.status}", advice)
    else:
        probe.report.ok("presign", "presigned URLs work")


async def _public(probe: Probe, session: aiohttp.ClientSession, url: str) -> None:
    try:
        async with session.get(url, headers=RANGE) as answer:
            body, status, headers = await answer.read(), answer.status, answer.headers
    except (aiohttp.ClientError, TimeoutError) as error:
        probe.report.fail(
            "public_url", f"S3_PUBLIC_URL cannot be reached: {error!r}", "correct S3_PUBLIC_URL"
        )
        return
    problem = _problem(status, headers, body)
    if problem:
        probe.report.fail("public_url", *problem)
    else:
        probe.report.ok("public_url", "anyone can read objects, also in part, with the correct type")


def _problem(status: int, headers: Mapping[str, str], body: bytes) -> tuple[str, str] | None:
    if status in (401, 403):
        return "S3_PUBLIC_URL rejects requests without a signature", "allow anonymous reads of hls/*"
    if status not in (200, 206):
        return f"S3_PUBLIC_URL answers {status} for an existing object", "point it at this bucket"
    if status == 200 or body != BODY[:10]:
        return "S3_PUBLIC_URL does not support ranges", "let the server or CDN forward Range"
    if headers.get("Content-Type") != TYPE:
        return (
            f"segments come as {headers.get('Content-Type')}, not as {TYPE}",
            "let the server or CDN keep Content-Type",
        )
    return None


async def _cors(probe: Probe, session: aiohttp.ClientSession, url: str, origin: str) -> None:
    players = f"players on {origin}" if origin != REDIRECTED else "players that the streamer redirects"
    try:
        async with session.get(url, headers={"Origin": origin}) as answer:
            allowed = answer.headers.get("Access-Control-Allow-Origin")
    except (aiohttp.ClientError, TimeoutError) as error:
        probe.report.fail("cors", f"{origin}: {error!r}", "correct S3_PUBLIC_URL")
        return
    if allowed in ("*", origin):
        probe.report.ok("cors", f"{players} may read")
    else:
        probe.report.fail(
            "cors",
            f"{players} may not read: Origin is {origin}, Access-Control-Allow-Origin {allowed or 'missing'}",
            "allow GET and HEAD from any origin in the bucket's CORS rules (--fix-cors) or in the CDN",
        )


async def _fix_cors(probe: Probe) -> None:
    """Let pages of any origin read: the bucket is public, and browsers hide the origin after a redirect."""
    with probe.trying("cors", "s3:PutBucketCORS"):
        await probe.storage.client.put_bucket_cors(
            Bucket=probe.bucket,
            CORSConfiguration={
                "CORSRules": [
                    {
                        "AllowedOrigins": ["*"],
                        "AllowedMethods": ["GET", "HEAD"],
                        "AllowedHeaders": ["*"],
                        "ExposeHeaders": NAMES_IN_CORS,
                        "MaxAgeSeconds": 3600,
                    }
                ]
            },
        )
        probe.report.ok("cors", "CORS rules were written")
