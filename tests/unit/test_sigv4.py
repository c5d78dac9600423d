"""Our presigned URLs against botocore's under a frozen clock."""

from __future__ import annotations

from datetime import UTC, datetime

import botocore.auth
import botocore.session
import pytest
from botocore.config import Config

from shared.storage.s3.sigv4 import Credentials, presign

AT = datetime(2026, 11, 28, 21, 0, 0, tzinfo=UTC)
KEYS = ("hls/alice/1/720p/segment_001.ts", "hls/a_b-c/master.m3u8")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("token", [None, "sess/ion+token=="])
@pytest.mark.parametrize(
    "target",
    [
        ("http://127.0.0.1:9000", "path", "http://127.0.0.1:9000/media"),
        ("https://s3.example.com", "virtual", "https://media.s3.example.com"),
        (None, "virtual", "https://media.s3.eu-central-1.amazonaws.com"),
    ],
)
def test_presign_gives_the_url_of_botocore_when_the_clock_is_frozen(
    key: str, token: str | None, target: tuple[str | None, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, style, base = target
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: AT.replace(tzinfo=None))
    client = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=endpoint,
        region_name="eu-central-1",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="wJalr+secret/key",
        aws_session_token=token,
        config=Config(signature_version="s3v4", s3={"addressing_style": style}),
    )
    theirs = client.generate_presigned_url("get_object", {"Bucket": "media", "Key": key}, ExpiresIn=3600)
    credentials = Credentials("AKIDEXAMPLE", "wJalr+secret/key", token)
    ours = presign(base, "eu-central-1", credentials, key, at=AT, seconds=3600)
    parts = [(url.partition("?")[0], set(url.partition("?")[2].split("&"))) for url in (ours, theirs)]
    assert parts[0] == parts[1]
