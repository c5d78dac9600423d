from __future__ import annotations

import pytest

from shared.settings import Settings
from shared.telemetry.redaction import redactor, secrets_of

KEY = "vod_Zm9yYmlkZGVuLWtleS1vZi1hLXRlc3QtMTIzNDU2Nzg5"
GRANT = "1795939200-own04644049c5d5-bfBXjvuu3byH-VQ8L8YArQ"
JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f'{{"path": "/{KEY}"}}', '{"path": "/vod_***"}'),
        (
            f"Invalid header: b'Authorization: Bearer {KEY}\\r'",
            "Invalid header: b'Authorization: Bearer vod_***\\r'",
        ),
        ("authorization: bearer abcdefghijk", "authorization: bearer ***"),
        (f"GET /api/stream/1/t/{JWT}/master.m3u8", "GET /api/stream/1/t/***/master.m3u8"),
        (f"/api/stream/1/g//{GRANT}/720p/segment_001.ts", "/api/stream/1/g//***/720p/segment_001.ts"),
        ("connect to amqp://user:secret@host:1/", "connect to amqp://***@host:1/"),
        ("s3://b/k?X-Amz-Signature=abc&x=1", "s3://b/k?X-Amz-Signature=***&x=1"),
        ("the password is hunter2hunter2", "the password is ***"),
        ("https://example.org/a@b", "https://example.org/a@b"),
        ("12345678-1111-4222-8333-444455556666 is ready", "12345678-1111-4222-8333-444455556666 is ready"),
        ("0b8f7c1e-1111-4222-8333-444455556666 is ready", "0b8f7c1e-1111-4222-8333-444455556666 is ready"),
    ],
)
def test_redactor_masks_secrets_and_leaves_the_rest(line: str, expected: str) -> None:
    assert redactor(["hunter2hunter2"])(line) == expected


def test_secrets_of_the_configuration_are_known_in_every_form_that_logs_quote() -> None:
    settings = Settings(
        database_url="postgresql://vod:p%40ss%22word@h/x",
        rabbitmq_url="amqp://vod:short@h/",
        s3_secret_access_key="s3-secret-key",
        work_dir="/tmp",
    )
    assert secrets_of(settings) == {"p%40ss%22word", 'p@ss"word', 'p@ss\\"word', "s3-secret-key"}
