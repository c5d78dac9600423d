from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog

from services.ingest.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator

URL = "postgresql://nobody@localhost:1/nothing"


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """Restore logging, which a command silences."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.parametrize(
    ("arguments", "url", "says"),
    [
        ("create-key --scope user --name x", URL, "userId"),
        ("create-key --scope admin --name x --user-id x", URL, "userId"),
        ("create-key --scope user --name x --user-id a/b", URL, "userId"),
        ("create-key --scope root --name x", URL, "--scope"),
        ("create-key --scope admin", URL, "--name"),
        ("create-key --scope admin --name x", "", "DATABASE_URL"),
        ("create-key --scope admin --name x", "mysql://x", "DATABASE_URL"),
        ("create-keys", URL, "create-keys"),
        ("playback-token no-uuid", URL, "video_id"),
        ("playback-token 0a1b2c3d-0000-4000-8000-000000000001 --ttl-seconds 0", URL, "ttlSeconds"),
        ("inspect-token", URL, "token"),
        ("--scope admin", URL, "command"),
    ],
)
def test_command_says_in_one_line_what_is_wrong(
    arguments: str,
    url: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    assert main(arguments.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), says in err) == ("", 1, True)


def test_service_names_what_the_environment_lacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("DATABASE_URL", "RABBITMQ_URL", "WORK_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert main([]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "WORK_DIR: is required" in err
