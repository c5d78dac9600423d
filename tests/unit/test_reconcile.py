"""The reconciler's decision about a stalled video."""

from __future__ import annotations

from uuid import uuid4

import pytest

from services.uploader.maintenance.reconcile import BACKLOG_PATIENCE, MAX_RESUMES, decide
from shared.messaging.topology import QUEUES
from shared.videos import StalledVideo

PATIENCE = 600.0
EMPTY = dict.fromkeys(QUEUES, 0)


def video(*, silent, resumes=0, stage="encode", status="processing"):
    return StalledVideo(uuid4(), status, 1, resumes, stage, silent)


@pytest.mark.parametrize("stage", ["plan", "encode", "upload"])
def test_decide_resumes_when_a_stalled_video_has_no_message_waiting(stage):
    assert decide(video(silent=PATIENCE, stage=stage), EMPTY, PATIENCE) == "resume"


def test_decide_doubles_its_patience_when_it_resumed_before():
    assert decide(video(silent=PATIENCE * 3.9, resumes=2), EMPTY, PATIENCE) == "wait"
    assert decide(video(silent=PATIENCE * 4, resumes=2), EMPTY, PATIENCE) == "resume"


def test_decide_gives_up_when_the_last_resume_achieved_nothing():
    long = PATIENCE * 2**MAX_RESUMES
    assert decide(video(silent=long - 1, resumes=MAX_RESUMES), EMPTY, PATIENCE) == "wait"
    assert decide(video(silent=long, resumes=MAX_RESUMES), EMPTY, PATIENCE) == "fail"


@pytest.mark.parametrize(
    ("stage", "queue"),
    [
        ("plan", "transcoder.plan"),
        ("encode", "transcoder.bulk"),
        ("encode", "transcoder.plan"),
        ("upload", "uploader.store"),
    ],
)
def test_decide_never_gives_up_when_the_video_may_wait_its_turn(stage, queue):
    messages = EMPTY | {queue: 1}
    for silent, expected in ((PATIENCE, "wait"), (PATIENCE * BACKLOG_PATIENCE, "resume_in_backlog")):
        assert decide(video(silent=silent, stage=stage), messages, PATIENCE) == expected
    for_ever = PATIENCE * 2**MAX_RESUMES * BACKLOG_PATIENCE * 99
    assert decide(video(silent=for_ever, resumes=MAX_RESUMES, stage=stage), messages, PATIENCE) != "fail"


def test_decide_looks_only_at_the_queues_that_matter():
    assert decide(video(silent=PATIENCE, stage="plan"), EMPTY | {"transcoder.bulk": 9}, PATIENCE) == "resume"


def test_decide_never_gives_up_a_deletion():
    deleted = video(silent=PATIENCE, resumes=99, status="deleted")
    assert decide(deleted, EMPTY, PATIENCE) == "resume"
    assert decide(deleted, EMPTY | {"uploader.delete": 1}, PATIENCE) == "wait"
