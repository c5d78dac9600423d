from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from tests.leaks import leaks_below, leaks_in

if TYPE_CHECKING:
    from pathlib import Path

GRANT = "1795917600-own0123456789ab-" + "s" * 22
SIGNED = "http://s3/videos/a.ts?X-Amz-Signature=" + "0f" * 32
KEY = "vod_Zm9yYmlkZGVuLWtleS1vZi1hLXRlc3QtMTIzNDU2Nzg5"[:47]

SECRETS = ("a-long-password", "another-password", "admin-api-key", KEY, GRANT, SIGNED)


def test_logs_with_a_secret_are_reported_and_others_are_not(tmp_path: Path) -> None:
    secrets = {"postgres": "a-long-password", "s3_access_key": "not-a-secret"}
    (tmp_path / "state.json").write_text(json.dumps({"secrets": secrets}))
    (tmp_path / "env").write_text(
        "RABBITMQ_URL='amqp://vod:another-password@h/'\nADMIN_API_KEY=admin-api-key\n"
    )
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "ingest.log").write_text("not-a-secret vod_***\n")
    assert leaks_in(tmp_path) == []
    for number, secret in enumerate(SECRETS):
        (logs / f"part-{number}.log").write_text(f"it is {secret}\n")
    (logs / "000001.log").write_text(f"a key of LevelDB that looks like {GRANT}\n")
    assert [leak.split(":")[0] for leak in leaks_in(tmp_path)] == [
        f"part-{number}.log" for number in range(6)
    ]


def test_a_secret_of_one_stack_is_found_in_the_log_of_another(tmp_path: Path) -> None:
    for name in ("one", "two"):
        stack = tmp_path / name
        stack.mkdir()
        state = {"secrets": {"postgres": f"password-of-{name}"}, "ports": {}}
        (stack / "state.json").write_text(json.dumps(state))
        (stack / "env").write_text("WORK_DIR=/w\n")
        (stack / "ingest.log").write_text("nothing\n")
    assert leaks_below(tmp_path) == []
    (tmp_path / "two" / "ingest.log").write_text("it is password-of-one\n")
    (tmp_path / "elsewhere.log").write_text("it is password-of-two\n")
    found = leaks_below(tmp_path)
    shutil.rmtree(tmp_path)  # or the check after all tests would find it too
    assert found == ["elsewhere.log: postgres of two", "two/ingest.log: postgres of one"]
