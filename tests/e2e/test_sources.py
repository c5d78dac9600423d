"""Videos announced by a platform: every kind of source, and invalid ones."""

from __future__ import annotations

import asyncio
import functools
import http.server
import ssl
import threading
from uuid import uuid4

import aio_pika
import pytest

from tests.certificate import make_certificate
from tests.e2e.system import IN_BUCKET, needs_volume


@pytest.fixture
def https_server(tmp_path_factory, small_clip):
    """An https server on this machine with its own certificate; yields its base URL and certificate."""
    directory = tmp_path_factory.mktemp("https")
    certificate, key = make_certificate(directory)
    handler = functools.partial(QuietHandler, directory=str(small_clip.parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://localhost:{server.server_port}", certificate
    server.shutdown()
    server.server_close()
    thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


async def put_source(system, clip):
    """Put a clip where a platform may: on the work volume, or in a bucket where there is none."""
    if IN_BUCKET:
        name = f"incoming/{uuid4()}.mp4"
        async with system.s3() as s3:
            await s3.put_object(Bucket=system.env["S3_BUCKET"], Key=name, Body=clip.read_bytes())
        return f"s3://{system.env['S3_BUCKET']}/{name}"
    return put_into_work(system, clip).as_uri()


def put_into_work(system, clip):
    directory = system.work / "incoming"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"my clip {uuid4()}.mp4"
    path.write_bytes(clip.read_bytes())
    return path


@needs_volume
async def test_platform_event_starts_the_pipeline_when_the_source_is_a_file(s3_mode, small_clip):
    path = put_into_work(s3_mode, small_clip)
    async with s3_mode.client() as client, s3_mode.events() as events:
        video_id = await events.upload(path.as_uri(), filename="clip.mp4", qualities=["360p"])
        ready = await client.ready(video_id)
        assert (ready["userId"], ready["filename"]) == ("platform", "clip.mp4")
        assert len(await events.of(video_id, "video.stored", at_least=1)) == 1
    assert path.exists(), "the platform's own file is left alone"


async def test_platform_event_starts_the_pipeline_when_the_source_is_in_s3(s3_mode, small_clip):
    async with s3_mode.client() as client, s3_mode.events() as events, s3_mode.s3() as s3:
        bucket = s3_mode.env["S3_BUCKET"]
        await s3.put_object(Bucket=bucket, Key="incoming/a clip.mp4", Body=small_clip.read_bytes())
        ready = await client.ready(await events.upload(f"s3://{bucket}/incoming/a clip.mp4"))
    assert ready["durationSeconds"] == pytest.approx(5, abs=0.05)


async def test_platform_event_starts_the_pipeline_when_the_source_is_on_an_https_server(
    s3_mode, small_clip, https_server
):
    base, certificate = https_server
    s3_mode.up(SSL_CERT_FILE=str(certificate))
    async with s3_mode.client() as client, s3_mode.events() as events:
        ready = await client.ready(await events.upload(f"{base}/{small_clip.name}"))
    assert ready["durationSeconds"] == pytest.approx(5, abs=0.05)


async def test_video_is_converted_once_when_its_event_arrives_three_times(s3_mode, small_clip):
    uri, video_id = await put_source(s3_mode, small_clip), str(uuid4())
    async with s3_mode.client() as client, s3_mode.events() as events:
        for _ in range(3):
            await events.upload(uri, videoId=video_id)
        await client.ready(video_id)
        await asyncio.sleep(1)
        assert len(await events.of(video_id, "video.stored", at_least=1)) == 1


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("ftp://host/clip.mp4", "source_unavailable"),
        ("file:///etc/passwd", "source_unavailable"),
        ("file:../../etc/passwd", "source_unavailable"),
        ("file:incoming/nothing.mp4", "source_unavailable"),
        ("s3://videos/nothing.mp4", "source_unavailable"),
        ("https://127.0.0.1/clip.mp4", "source_unavailable"),
        ("https://169.254.169.254/latest/meta-data", "source_unavailable"),
    ],
)
async def test_video_fails_with_a_record_and_an_event_when_its_source_is_unusable(s3_mode, uri, reason):
    async with s3_mode.client() as client, s3_mode.events() as events:
        video_id = await events.upload(uri)
        error = await client.failed(video_id)
        assert (error["stage"], error["reason"], error["retryable"]) == ("plan", reason, False)
        [failed] = await events.of(video_id, "video.failed", at_least=1)
    assert {key: failed[key] for key in error} == error


async def test_video_fails_when_the_upload_is_no_video(s3_mode, tmp_path):
    text = tmp_path / "notes.mp4"
    text.write_text("this is no video\n" * 100)
    async with s3_mode.client() as client:
        error = await client.failed((await client.upload(text))["id"])
    assert error["stage"] == "plan"
    assert not error["retryable"]
    assert error["reason"] in ("not_a_video", "corrupt_source")


async def test_message_that_cannot_be_decoded_becomes_a_dead_letter(s3_mode):
    marker = f"no event {uuid4()}".encode()
    connection = await aio_pika.connect(s3_mode.env["RABBITMQ_URL"])
    async with connection, s3_mode.events() as events:
        await events.publish(marker)
        channel = await connection.channel()
        dead = await channel.get_queue("transcoder.plan.dead")
        async with asyncio.timeout(20):
            while not (message := await dead.get(fail=False, no_ack=True)) or message.body != marker:
                await asyncio.sleep(0.1)
    assert "not valid JSON" in message.headers["x-reason"]
