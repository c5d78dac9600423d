"""R2 and AWS by strict emulation: our client passes, and one that does it the naive way is refused."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from aiohttp import web
from botocore.exceptions import ClientError

from shared.errors import StorageRefused
from shared.storage.open_storage import open_s3
from tests.certificate import make_certificate
from tests.doctor_cases import KEYS, REGION
from tests.integration.test_storage_doctor import backend
from tests.providers.front import Front
from tests.providers.rules import (
    AwsExpiry,
    AwsSlowDown,
    R2EqualParts,
    R2WriteRate,
    aws_elsewhere,
    aws_encryption,
    aws_tls,
    aws_without_list,
    r2_domain,
    r2_headers,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from shared.storage.s3.storage import S3Storage
    from tests.providers.front import Backend

__all__ = ["backend"]  # the fixture of an empty bucket
PART = 5 * 1024**2
AWS = {"s3_provider": "aws", "s3_addressing_style": "path"}  # the emulation has no DNS names for buckets
NO_DELAY = "shared.storage.s3.handlers.random.uniform"


def r2(backend: Backend, **options: Any) -> Front:
    rules = [r2_headers, R2WriteRate(), R2EqualParts()]
    return Front(backend, KEYS, "auto", **{"rules": rules, **options})


def aws(backend: Backend, *rules: Any, **options: Any) -> Front:
    return Front(backend, KEYS, REGION, rules=rules, **options)


@asynccontextmanager
async def ours(servers: Any, tmp_path: Path, front: Front, **given: Any) -> AsyncIterator[S3Storage]:
    settings = servers.settings(
        work_dir=tmp_path,
        **{
            "storage_type": "s3",
            "s3_endpoint_url": front.url,
            "s3_region": front.region,
            "s3_bucket": "videos",
            "s3_access_key_id": "key",
            "s3_secret_access_key": "secret",
            "s3_single_put_bytes": PART,
            "s3_part_bytes": PART,
        }
        | given,
    )
    async with open_s3(settings) as storage:
        yield storage


@asynccontextmanager
async def naive(front: Front, region: str, **config: Any) -> AsyncIterator[Any]:
    """Yield a client with its default settings."""
    client = get_session().create_client(
        "s3",
        endpoint_url=front.url,
        region_name=region,
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        config=AioConfig(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, **config),
    )
    async with client as opened:
        yield opened


async def presigned_status(client: Any) -> int:
    """Return the answer to a URL that the client has signed."""
    url = await client.generate_presigned_url("get_object", Params={"Bucket": "videos", "Key": "b"})
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status


async def use(storage: S3Storage, tmp_path: Path) -> None:
    """Do what the pipeline does to a video."""
    (tmp_path / "large").write_bytes(bytes(2 * PART) + b"the last part is shorter")
    await storage.check()
    assert await storage.put_file("hls/u/v/segment_001.ts", tmp_path / "large") == 2 * PART + 24
    for body in (b"#EXTM3U", b"#EXTM3U again"):
        await storage.put_bytes("hls/u/v/master.m3u8", body)
    assert [stored.bytes for stored in await storage.keys("hls/u/v")] == [13, 2 * PART + 24]
    async with storage.read("hls/u/v/segment_001.ts", start=2 * PART) as reader:
        assert await reader.body() == b"the last part is shorter"
    assert await storage.delete_prefix("hls/u/v") == 2
    assert await storage.keys("hls/u/v") == []


async def test_r2_accepts_what_we_send(servers: Any, backend: Backend, tmp_path: Path) -> None:
    async with r2(backend) as front, ours(servers, tmp_path, front, s3_provider="r2") as storage:
        await use(storage, tmp_path)
    refused = [asked for asked in front.seen if asked.method == "PUT" and asked.key.endswith("master.m3u8")]
    assert len(refused) > 2, "the second write of a second was refused, and tried again"


async def test_r2_serves_presigned_urls_on_its_own_host_and_anonymous_reads_on_the_domain(
    servers: Any, backend: Backend, tmp_path: Path
) -> None:
    domain = r2(backend, allows_anonymous=True, rules=[r2_domain])
    async with r2(backend) as front, domain, aiohttp.ClientSession() as session:
        public = f"{domain.url}/videos"
        async with ours(servers, tmp_path, front, s3_provider="r2", s3_public_url=public) as storage:
            await storage.put_bytes("hls/a.ts", b"media")
            sign = await storage.presigner(at=datetime.now(UTC), seconds=60)
            statuses = {}
            for name, url in (
                ("presigned", sign("hls/a.ts")),
                ("unsigned", f"{front.url}/videos/hls/a.ts"),
                ("domain", f"{storage.public_base_url}/hls/a.ts"),
                ("presigned domain", sign("hls/a.ts").replace(front.url, domain.url)),
            ):
                async with session.get(url) as answer:
                    statuses[name] = answer.status
            await storage.delete("hls/a.ts")
    assert statuses.pop("presigned domain") in (400, 403)
    assert statuses == {"presigned": 200, "unsigned": 403, "domain": 200}


async def test_r2_has_no_public_url_without_a_domain(servers: Any, backend: Backend, tmp_path: Path) -> None:
    async with r2(backend) as front, ours(servers, tmp_path, front, s3_provider="r2") as storage:
        assert storage.public_base_url is None


async def test_r2_layer_refuses_a_naive_client(backend: Backend) -> None:
    async with r2(backend) as front:
        async with naive(front, "auto") as client:
            for wrong in ({"ACL": "public-read"}, {"ServerSideEncryption": "AES256"}, {}):
                with pytest.raises(ClientError, match="NotImplemented"):  # the last for its checksum
                    await client.put_object(Bucket="videos", Key="a", Body=b"x", **wrong)
        plain = {"request_checksum_calculation": "when_required"}
        async with naive(front, "auto", **plain) as client:
            await client.put_object(Bucket="videos", Key="b", Body=b"x")
            with pytest.raises(ClientError, match="TooManyRequests"):
                await client.put_object(Bucket="videos", Key="b", Body=b"y")
            begun = await client.create_multipart_upload(Bucket="videos", Key="c")
            upload = {"Bucket": "videos", "Key": "c", "UploadId": begun["UploadId"]}
            parts = []
            for number, size in ((1, PART), (2, PART + 1), (3, 1)):
                answer = await client.upload_part(**upload, PartNumber=number, Body=bytes(size))
                parts.append({"PartNumber": number, "ETag": answer["ETag"]})
            with pytest.raises(ClientError, match="InvalidPart"):
                await client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
            await client.abort_multipart_upload(**upload)
        async with naive(front, "eu-west-1", **plain) as client:
            assert await presigned_status(client) == 403, "it is signed by version 2"
        async with naive(front, "eu-west-1", **plain, signature_version="s3v4") as client:
            assert await presigned_status(client) == 400, "the region is wrong"


async def test_aws_accepts_what_we_send_through_bursts_and_policies(
    servers: Any, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NO_DELAY, lambda *_: 0.0)
    slow = AwsSlowDown(4)
    async with (
        aws(backend, aws_encryption, slow) as front,
        ours(
            servers, tmp_path, front, s3_provider="aws", s3_addressing_style="path", s3_sse="AES256"
        ) as storage,
    ):
        await use(storage, tmp_path)
    assert slow.times == 0


async def test_aws_names_what_is_missing_where_it_may_not_be_listed(
    servers: Any, backend: Backend, tmp_path: Path
) -> None:
    async with (
        aws(backend, aws_without_list(set())) as front,
        ours(servers, tmp_path, front, **AWS) as storage,
    ):
        await storage.put_bytes("hls/a.ts", b"x")
        assert await storage.head("hls/a.ts")
        for ask in (storage.head("hls/gone.ts"), storage.keys("hls"), storage.check()):
            with pytest.raises(StorageRefused, match="AccessDenied"):
                await ask
        await storage.delete("hls/a.ts")


async def test_aws_refuses_a_clock_that_is_off(servers: Any, backend: Backend, tmp_path: Path) -> None:
    async with (
        aws(backend, clock_offset=timedelta(minutes=-20)) as front,
        ours(servers, tmp_path, front) as storage,
    ):
        with pytest.raises(StorageRefused, match="set the clock"):
            await storage.put_bytes("hls/a.ts", b"x")


async def test_aws_layer_refuses_what_a_naive_client_presigns(backend: Backend) -> None:
    async with aws(backend) as front, naive(front, "us-east-1", signature_version="s3v4") as client:
        assert await presigned_status(client) == 400, "the region is wrong"


class SecurityTokens:
    """AssumeRoleWithWebIdentity: a new key each time, declared valid for hours."""

    def __init__(self) -> None:
        self.given = 0

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.given += 1
        expiry = f"{datetime.now(UTC) + timedelta(hours=6):%Y-%m-%dT%H:%M:%SZ}"
        return web.Response(
            text=(
                "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
                f"<AccessKeyId>temporary{self.given}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>"
                f"<SessionToken>token{self.given}</SessionToken><Expiration>{expiry}</Expiration>"
                "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
            ),
            content_type="text/xml",
        )


async def test_aws_credentials_of_a_pod_are_fetched_again_when_they_expire(
    servers: Any, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = SecurityTokens()
    runner = web.ServerRunner(web.Server(tokens.answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    (tmp_path / "token").write_text("of the pod")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{runner.addresses[0][1]}")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/vod")
    keys = {f"temporary{number}": "secret" for number in range(1, 9)}
    front = Front(backend, keys, REGION, rules=[AwsExpiry(2)])
    nothing = {"s3_access_key_id": "", "s3_secret_access_key": ""}
    try:
        async with (
            front,
            ours(
                servers, tmp_path, front, s3_provider="aws", s3_addressing_style="path", **nothing
            ) as storage,
        ):
            for number in range(5):
                await storage.put_bytes(f"hls/{number}.ts", b"x")
            assert len(await storage.keys("hls")) == 5
    finally:
        await runner.cleanup()
    assert tokens.given == 3


async def test_r2_domain_refuses_a_naive_client(backend: Backend) -> None:
    domain = r2(backend, allows_anonymous=True, rules=[r2_domain])
    async with domain, naive(domain, "auto", signature_version="s3v4") as client:
        assert await presigned_status(client) == 400, "presigned URLs are for the S3 host alone"


SHORT_LIVED = 2  # requests


async def look_and_put(client: Any) -> None:
    """Put a key a few times, and request one that does not exist."""
    for _ in range(SHORT_LIVED + 1):
        await client.put_object(Bucket="videos", Key="a", Body=b"x")
    await client.head_object(Bucket="videos", Key="gone")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"rules": [aws_encryption]}, "AccessDenied"),
        ({"rules": [aws_tls]}, "AccessDenied"),
        # It signs for the other region then, and asks the same endpoint again.
        ({"rules": [aws_elsewhere("eu-west-3")]}, "AuthorizationHeaderMalformed"),
        ({"rules": [aws_without_list(set())]}, "403"),
        ({"rules": [AwsSlowDown(9)]}, "SlowDown"),
        ({"rules": [AwsExpiry(SHORT_LIVED)]}, "ExpiredToken"),
        ({"clock_offset": timedelta(minutes=-20)}, "RequestTimeTooSkewed"),
    ],
    ids=["encryption", "tls", "301", "no list", "burst", "expiry", "clock"],
)
async def test_each_rule_of_aws_refuses_a_naive_client(
    backend: Backend, options: dict[str, Any], code: str
) -> None:
    front = Front(backend, KEYS, **{"region": REGION, **options})
    async with front, naive(front, REGION, signature_version="s3v4") as client:
        with pytest.raises(ClientError) as refused:
            await look_and_put(client)
    assert refused.value.response["Error"]["Code"] == code


async def test_aws_policy_that_demands_tls_accepts_what_we_send(
    servers: Any, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    async with (
        aws(backend, aws_tls, tls=context) as front,
        ours(servers, tmp_path, front, **AWS) as storage,
    ):
        await use(storage, tmp_path)
        assert is_direct(front), "the bundle is trusted without botocore as well"
    async with aws(backend, aws_tls) as front, ours(servers, tmp_path, front, **AWS) as storage:
        with pytest.raises(StorageRefused, match="AccessDenied"):
            await storage.put_bytes("hls/a.ts", b"x")


def is_direct(front: Front) -> bool:
    """Tell whether objects were put and read without botocore."""
    agents = {
        asked.method: asked.headers["user-agent"] for asked in front.seen if asked.key.endswith(".m3u8")
    }
    return "aiohttp" in agents["PUT"]


async def test_aws_names_the_region_of_a_bucket_that_is_elsewhere(
    servers: Any, backend: Backend, tmp_path: Path
) -> None:
    async with (
        aws(backend, aws_elsewhere("eu-west-3")) as front,
        ours(servers, tmp_path, front, **AWS) as storage,
    ):
        for ask in (storage.put_bytes("hls/a.ts", b"x"), storage.check()):
            with pytest.raises(StorageRefused, match="set S3_REGION=eu-west-3"):
                await ask
