"""Checks that the bucket is reachable: network, TLS, clock, credentials, region."""

from __future__ import annotations

import asyncio
import re
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import aiohttp

from shared.storage.doctor.causes import advice_for, check_of, said
from shared.storage.doctor.run_context import FAULTS

if TYPE_CHECKING:
    from shared.storage.doctor.run_context import Probe

CONNECT_SECONDS: Final = 10.0
SKEW_SECONDS: Final = 30.0  # AWS rejects a difference of 15 minutes or more
EXPIRES_SOON_DAYS: Final = 14
REGION: Final = re.compile("<Region>([a-z0-9-]+)</Region>")
LOCAL_HOSTS: Final = ("localhost", "127.0.0.1", "::1")


async def check_access(probe: Probe) -> bool:
    """List one key and record the findings. False when no further checks are possible."""
    if not await _check_region(probe):
        return False
    try:
        answer = await probe.storage.client.list_objects_v2(Bucket=probe.bucket, Prefix="hls/", MaxKeys=1)
    except FAULTS as error:
        check = check_of(error, "list")
        probe.report.fail(check, said(error), advice_for(check, error, "s3:ListBucket"))
        return False
    probe.report.ok("reach", f"{probe.storage.client.meta.endpoint_url} answers")
    _check_clock(probe, dict(answer["ResponseMetadata"].get("HTTPHeaders", {})))
    probe.report.ok("list", f"the bucket {probe.bucket} can be listed")
    return True


def _check_clock(probe: Probe, headers: dict[str, str]) -> None:
    if not (date := headers.get("date")):
        probe.report.skip("clock", "the server sends no Date")
        return
    skew = abs((datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds())
    if skew > SKEW_SECONDS:
        probe.report.warn(
            "clock",
            f"the clocks of this machine and the server differ by {skew:.0f} s; from 900 s on all requests "
            "are rejected",
            "set the clock of this machine, with NTP for example",
        )
    else:
        probe.report.ok("clock", f"differs from the server's by {skew:.0f} s")


async def _check_region(probe: Probe) -> bool:
    """Send a presigned request, which no library corrects."""
    target = {"Bucket": probe.bucket, "MaxKeys": 1}
    try:
        url = await probe.storage.client.generate_presigned_url("list_objects_v2", Params=target)
        timeout = aiohttp.ClientTimeout(total=CONNECT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
            text = await answer.text()
    except (*FAULTS, aiohttp.ClientError):
        return True  # the listing that follows gives a better error
    region = REGION.search(text)
    if answer.status >= 300 and region and region[1] != probe.settings.s3_region:
        probe.report.fail(
            "region",
            f"the bucket is in {region[1]}, not in {probe.settings.s3_region}",
            f"set S3_REGION={region[1]}",
        )
        return False
    if answer.status == 200:
        probe.report.ok("region", f"{probe.settings.s3_region} is accepted")
    return True


async def check_credentials(probe: Probe, credentials: Any) -> None:
    """Report which credentials are used, and when they expire."""
    if probe.settings.s3_access_key_id:
        temporary = probe.settings.s3_session_token.get_secret_value()
        if temporary:
            probe.report.warn(
                "credentials",
                "S3_SESSION_TOKEN belongs to temporary keys, which will expire and are not renewed",
                "use keys without a token, or omit all three if AWS gives the pod a role",
            )
        else:
            probe.report.ok("credentials", "keys from S3_ACCESS_KEY_ID are accepted")
        return
    expiry = getattr(credentials, "_expiry_time", None)
    until = f", valid until {expiry:%Y-%m-%d %H:%M} UTC, renewed before" if expiry else ""
    probe.report.ok("credentials", f"from {getattr(credentials, 'method', 'the environment')}{until}")


async def check_tls(probe: Probe) -> None:
    """Check the server's certificate, or report that the connection is not encrypted."""
    url = urlsplit(probe.storage.client.meta.endpoint_url)
    if url.scheme != "https":
        if url.hostname in LOCAL_HOSTS:
            probe.report.skip("tls", "not encrypted, but on this machine")
        else:
            probe.report.warn("tls", "the connection is not encrypted", "use an https:// S3_ENDPOINT_URL")
        return
    with probe.trying("tls"):
        until = await _certificate_end(str(url.hostname), url.port or 443)
        days = (until - datetime.now(UTC)).days
        if days < EXPIRES_SOON_DAYS:
            probe.report.warn("tls", f"the certificate expires in {days} days", "renew it")
        else:
            probe.report.ok("tls", f"the certificate is valid for {days} days")


async def _certificate_end(host: str, port: int) -> datetime:
    async with asyncio.timeout(CONNECT_SECONDS):
        _, writer = await asyncio.open_connection(host, port, ssl=ssl.create_default_context())
    try:
        certificate = writer.get_extra_info("peercert")
    finally:
        writer.close()
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
