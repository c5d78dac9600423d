"""What happens to a message, for every possible result of its handler."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import errors
from shared.errors import (
    CorruptSource,
    DatabaseUnavailable,
    Deferred,
    EncodeFailed,
    OutOfDisk,
    StorageRefused,
    StorageUnavailable,
    Superseded,
    WorkerLost,
)
from shared.messaging.retry_policy import MAX_DELAY_SECONDS, MAX_PATIENT_DELAY_SECONDS, RetryPolicy
from shared.messaging.verdicts import Acknowledge, Delivery, GiveUp, Keep, TryAgain, decide, lost_worker

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
POLICY = RetryPolicy(3, 2.0)
ENDLESS = RetryPolicy(None, 2.0)
PATIENT = RetryPolicy(3, 2.0, {StorageUnavailable: 600.0})

FAULTS = st.sampled_from(
    [
        *(
            EncodeFailed("x"),
            StorageUnavailable("x"),
            StorageRefused("x"),
            WorkerLost("x"),
            RuntimeError("x"),
        ),
        *(CorruptSource("x"), errors.SourceFetchFailed("x"), errors.Stalled("x"), KeyError("x")),
    ]
)
DELIVERIES = st.builds(
    Delivery,
    attempt=st.integers(0, 100),
    deliveries=st.integers(0, 30),
    failing_since=st.none() | st.integers(-100, 10_000).map(lambda seconds: NOW - timedelta(seconds=seconds)),
)


def test_message_is_acknowledged_when_it_was_handled_or_is_not_wanted():
    assert decide(None, Delivery(), POLICY, NOW) == Acknowledge("done")
    assert decide(Superseded("x"), Delivery(), POLICY, NOW) == Acknowledge("superseded")


def test_message_is_kept_while_postgres_is_unavailable():
    assert isinstance(decide(DatabaseUnavailable("x"), Delivery(), POLICY, NOW), Keep)


@pytest.mark.parametrize("error", [Deferred("x", seconds=7.0), OutOfDisk("x")])
def test_deferral_uses_up_no_attempt(error):
    verdict = decide(error, Delivery(attempt=2), POLICY, NOW)
    assert verdict == TryAgain("deferred", error.reason, error.seconds, attempt=2)


def test_deferral_with_patience_is_waited_out_and_then_given_up():
    policy = RetryPolicy(3, 2.0, {errors.WorkBucketUnavailable: 600.0})
    error = errors.WorkBucketUnavailable("x", StorageRefused)
    first = decide(error, Delivery(attempt=2), policy, NOW)
    assert first == TryAgain("retried", "storage_refused", 2.0, 2, NOW)
    since = NOW - timedelta(seconds=600)
    last = decide(error, Delivery(attempt=2, failing_since=since), policy, NOW)
    assert last == GiveUp(error, retryable=True)


@pytest.mark.parametrize("error", [EncodeFailed("x"), RuntimeError("a bug")])
def test_fault_is_tried_again_until_the_last_attempt(error):
    verdicts = [decide(error, Delivery(attempt), POLICY, NOW) for attempt in range(3)]
    assert [type(verdict) for verdict in verdicts] == [TryAgain, TryAgain, GiveUp]
    assert [verdict.attempt for verdict in verdicts[:2]] == [1, 2]
    assert [verdict.delay_seconds for verdict in verdicts[:2]] == [2.0, 4.0]
    assert verdicts[2].retryable


def test_bug_is_reported_without_its_details():
    verdict = decide(KeyError("rungs"), Delivery(2), POLICY, NOW)
    assert verdict.error.reason == "internal_error"
    assert "rungs" not in verdict.error.message


def test_fault_of_the_input_is_given_up_at_once_and_permanently():
    assert decide(CorruptSource("x"), Delivery(), POLICY, NOW).retryable is False


@pytest.mark.parametrize("error", [WorkerLost("x"), StorageRefused("x")])
def test_fault_that_a_quick_retry_does_not_fix_is_given_up_at_once(error):
    assert decide(error, Delivery(), POLICY, NOW) == GiveUp(error, retryable=True)


@given(FAULTS, DELIVERIES)
def test_nothing_is_given_up_when_attempts_are_not_counted(error, delivery):
    for policy in (ENDLESS, RetryPolicy(None, 2.0, {StorageUnavailable: 1.0})):
        verdict = decide(error, delivery, policy, NOW)
        assert isinstance(verdict, TryAgain)
        assert 0 < verdict.delay_seconds <= MAX_DELAY_SECONDS


@given(FAULTS, DELIVERIES, st.integers(1, 20))
def test_every_fault_is_given_up_by_the_last_attempt(error, delivery, attempts):
    verdict = decide(error, delivery, RetryPolicy(attempts, 1.0), NOW)
    if isinstance(verdict, TryAgain):
        assert verdict.attempt == delivery.attempt + 1 < attempts
        assert verdict.failing_since is None, "another fault's patience has ended"
    else:
        assert isinstance(verdict, GiveUp)


@given(st.floats(0, 10_000), st.integers(0, 100))
def test_fault_with_patience_is_given_up_when_that_ends_however_often_it_was_tried(waited, attempt):
    delivery = Delivery(attempt, failing_since=NOW - timedelta(seconds=waited))
    verdict = decide(StorageUnavailable("x"), delivery, PATIENT, NOW)
    assert isinstance(verdict, TryAgain) == ((NOW - delivery.failing_since).total_seconds() < 600.0)
    if isinstance(verdict, TryAgain):
        assert (verdict.attempt, verdict.failing_since) == (attempt, delivery.failing_since)
        assert 2.0 <= verdict.delay_seconds <= MAX_PATIENT_DELAY_SECONDS


def test_patience_begins_with_the_fault_and_outlives_a_deferral():
    first = decide(StorageUnavailable("x"), Delivery(1), PATIENT, NOW)
    assert (first.failing_since, first.attempt, first.delay_seconds) == (NOW, 1, 2.0)
    deferred = decide(OutOfDisk("x"), Delivery(1, failing_since=NOW), PATIENT, NOW)
    assert deferred.failing_since == NOW


def test_progress_renews_patience():
    failing = Delivery(failing_since=NOW - timedelta(seconds=10_000))
    for made_progress, verdict in ((False, GiveUp), (True, TryAgain)):
        error = StorageUnavailable("x")
        error.made_progress = made_progress
        assert isinstance(decide(error, failing, PATIENT, NOW), verdict)
    assert decide(error, failing, PATIENT, NOW).failing_since == NOW


def test_patience_of_the_closest_class_applies():
    policy = RetryPolicy(3, 1.0, {errors.TransientError: 5.0, StorageUnavailable: 600.0})
    assert policy.patience_seconds(StorageUnavailable("x")) == 600.0
    assert policy.patience_seconds(EncodeFailed("x")) == 5.0
    assert policy.patience_seconds(CorruptSource("x")) is None


def test_clock_that_was_ahead_prolongs_no_patience():
    ahead = Delivery(failing_since=NOW + timedelta(days=1))
    assert decide(StorageUnavailable("x"), ahead, PATIENT, NOW).failing_since == NOW


def test_message_counts_as_killing_its_workers_when_it_returns_too_often():
    assert lost_worker(Delivery(deliveries=7), POLICY) is None
    assert "9 times" in lost_worker(Delivery(deliveries=8), POLICY).message


@given(st.integers(1, 1000), st.floats(0.001, 1000))
def test_delay_grows_up_to_its_bound(attempt, first):
    policy = RetryPolicy(3, first)
    assert policy.delay_seconds(attempt) <= policy.delay_seconds(attempt + 1) <= MAX_DELAY_SECONDS
