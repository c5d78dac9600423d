"""The journal of a chaos run: accepted videos, their allowed ends, and recovery times."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from tests.chaos.failpoints import Points
from tests.chaos.journal import Entry, Journal
from tests.chaos.report import summary
from tests.chaos.workload.clips import Clip

CLIP = Clip(Path("short.mp4"), 2.0)


def ledger_of(*names):
    journal = Journal()
    for name in names:
        journal.accept(Entry(name, "alice", "upload", CLIP))
    return journal


def test_recovery_is_measured_when_the_last_video_in_flight_has_ended():
    journal = ledger_of("a", "b")
    journal.disturb("kill")
    journal.see({"a": ("ready", None)})
    assert journal.disturbances[0].recovered_seconds is None
    journal.accept(Entry("c", "alice", "upload", CLIP))
    journal.see({"b": ("deleted", None)})
    assert journal.disturbances[0].recovered_seconds is not None, "c came later, and is not waited for"


def test_failures_are_counted_by_reason_each_time_a_video_fails():
    journal = ledger_of("a")
    for status, reason in (("failed", "x"), ("failed", "x"), ("processing", None), ("failed", "x")):
        journal.see({"a": (status, reason)})
    assert journal.failures == {"x": 2}


def test_accepted_allows_for_retries_when_an_answer_was_lost():
    journal = ledger_of("a", "b")
    journal.entries["a"].retries = 2
    journal.entries["b"].retries_unknown = True
    accepted = journal.accepted()
    assert (accepted["a"].retries, accepted["b"].retries) == (2, None)
    assert accepted["a"].frames == 50


async def test_until_gives_up_when_a_video_does_not_reach_the_state():
    journal = ledger_of("a")
    assert not await journal.until(journal.entries["a"], "failed", seconds=0.0)
    journal.see({"a": ("failed", "x")})
    assert await journal.until(journal.entries["a"], "failed", seconds=0.0)


@pytest.mark.parametrize(
    "error", [OSError(), asyncpg.InternalClientError("another operation is in progress")]
)
async def test_watching_continues_when_postgres_is_unavailable(monkeypatch, error):
    looks = []

    async def connect(*_, **__):
        looks.append(error)
        raise error

    monkeypatch.setattr(asyncpg, "connect", connect)
    monkeypatch.setattr("tests.chaos.journal.LOOK_SECONDS", 0.0)
    journal = Journal()
    journal.begin_watching("postgresql://gone")
    async with asyncio.timeout(5):
        while len(looks) < 3:
            await asyncio.sleep(0)
    await journal.end_watching()


def test_parked_processes_are_reported_once_when_they_stop_at_a_point(tmp_path):
    points = Points(tmp_path)
    points.arm("store.begun")
    (tmp_path / "store.begun.armed").rename(tmp_path / "store.begun.123.parked")
    assert points.take_parked() == [("store.begun", 123)]
    assert points.take_parked() == []
    points.disarm("store.begun")


def test_summary_adds_kills_and_pauses():
    report = {
        "kills": 2,
        "pauses": 1,
        "videos": {"accepted": 4},
        "points": {"covered": 3},
        "recovery": {"longest_seconds": 5.4},
        "findings": {"lost": [], "doubled": [{}], "orphans": [], "playback": [{}]},
    }
    assert summary(report) == (
        "3 kills and pauses over 4 videos at 3 points: 0 lost, 1 doubled, 0 orphans, 1 playback errors,"
        " longest recovery 5 s"
    )
