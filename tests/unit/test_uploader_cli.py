"""Output and exit code of fsck when it does not succeed."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from services.uploader import cli
from services.uploader.fsck.check import Damage
from services.uploader.fsck.expected import Expected, Fault
from shared.errors import StorageUnavailable
from tests.unit.video_values import ID, video

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DAMAGE = Damage(video(status="ready"), (Fault(ID, "hls/alice/x/master.m3u8", Expected(100), None),))


class Checked:
    """An fsck that has found `damaged` videos of 20, and then perhaps fails."""

    damaged = 1
    ending: BaseException | None = None

    def __init__(self, *_: Any) -> None:
        pass

    async def check(self, findings: Any, tell: Any) -> None:
        findings.checked = findings.stored = 20
        findings.damaged += [DAMAGE] * self.damaged
        if self.ending:
            raise self.ending

    async def repair(self, findings: Any, tell: Any) -> None:
        findings.damaged[0] = Damage(DAMAGE.video, DAMAGE.faults, ("in_work",))


@pytest.fixture
def fsck(monkeypatch: pytest.MonkeyPatch) -> type[Checked]:
    @asynccontextmanager
    async def nothing(_: Any) -> AsyncIterator[Any]:
        yield SimpleNamespace(database=None, storages=None)

    class Fsck(Checked):
        pass

    monkeypatch.setattr(cli, "load_settings", lambda *_: None)
    monkeypatch.setattr(cli, "_identified", nothing)
    monkeypatch.setattr(cli, "_finder", lambda *_: None)
    monkeypatch.setattr(cli, "Fsck", Fsck)
    return Fsck


def test_repair_is_reported(fsck: type[Checked], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command(["fsck", "--repair"], 1) == 1
    assert "in work" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [(StorageUnavailable("503"), 2, "fsck: 503"), (KeyboardInterrupt(), 130, "fsck: interrupted")],
)
def test_findings_are_reported_when_the_check_ends_early(
    fsck: type[Checked], capsys: pytest.CaptureFixture[str], ending: BaseException, code: int, said: str
) -> None:
    fsck.ending = ending
    assert cli.run_command(["fsck", "--json"], 1) == code
    told = capsys.readouterr()
    assert [each["videoId"] for each in json.loads(told.out)["damaged"]] == [str(ID)]
    assert told.err.strip() == said


def test_repair_is_refused_when_most_videos_are_damaged(
    fsck: type[Checked], capsys: pytest.CaptureFixture[str]
) -> None:
    fsck.damaged = 19
    assert cli.run_command(["fsck", "--repair"], 1) == 2
    assert (
        "19 of 20 stored videos are damaged: is this the right storage for these records?"
        in capsys.readouterr().err
    )
    assert cli.run_command(["fsck", "--repair", "--force"], 1) == 1
    assert "in work" in capsys.readouterr().out
