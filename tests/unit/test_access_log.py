from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from shared.telemetry.access_log import AccessLog
from shared.telemetry.redaction import redactor

if TYPE_CHECKING:
    from collections.abc import Mapping

IDS = {"request_id": "0" * 32, "video_id": "0a1b2c3d-0000-4000-8000-000000000001"}


def line_of(
    capsys: pytest.CaptureFixture[str], path: str, method: str, ids: Mapping[str, str]
) -> dict[str, object]:
    log = AccessLog()
    log.write_json("streamer", redactor(["hush-hush-1"]))
    log.write({"status": 200, "seconds": 0.1}, dict(ids), path, method)
    line: dict[str, object] = json.loads(capsys.readouterr().out)
    return line


def test_write_gives_one_json_object_with_the_known_fields(capsys: pytest.CaptureFixture[str]) -> None:
    line = line_of(capsys, '/api/"odd\\path', "GET", IDS)
    assert str(line.pop("timestamp")).endswith("Z")
    assert line == {
        "method": "GET",
        "path": '/api/"odd\\path',
        "status": 200,
        "seconds": 0.1,
        **IDS,
        "event": "http",
        "service": "streamer",
        "level": "info",
    }


@pytest.mark.parametrize("secret", ["hush-hush-1", "vod_" + "k" * 20, "eyJhbGciOiJIUzI1.eyJzdWIi.c2ln"])
def test_write_masks_secrets_wherever_a_client_can_put_one(
    capsys: pytest.CaptureFixture[str], secret: str
) -> None:
    line = line_of(capsys, f"/api/{secret}", secret, {"request_id": secret})
    assert secret not in json.dumps(line)


def test_write_uses_the_general_log_until_it_is_told_to_write_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    AccessLog().write({"status": 200}, {}, "/api/x", "GET")
    assert "http" in capsys.readouterr().out
