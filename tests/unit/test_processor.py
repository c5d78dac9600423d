"""From a message's bytes to its outcome, with a recording requeue and sink."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from shared.contracts.cloudevents import Undecodable, decode, envelope
from shared.contracts.events import DeleteVideo, ResumeVideo
from shared.errors import CorruptSource, DatabaseUnavailable, EncodeFailed, StorageUnavailable, Superseded
from shared.messaging.processor import JITTER, Processor, Route
from shared.messaging.retry_policy import RetryPolicy

ID = UUID("0a1b2c3d-0000-4000-8000-000000000001")
NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Requeue:
    def __init__(self):
        self.messages = []

    async def add_again(self, event, payload, **how):
        self.messages.append((event, payload, how))


class Sink:
    """Records failures, except of work that is no longer needed."""

    def __init__(self, *, wanted=True):
        self.wanted, self.begun, self.given_up = wanted, [], []

    async def begin(self, payload):
        self.begun.append(payload)

        async def record(given_up):
            self.given_up.append(given_up)
            return self.wanted

        return record


class Handler:
    """Raises the given errors in order, then succeeds."""

    def __init__(self, *raises):
        self.raises, self.calls = list(raises), []

    async def __call__(self, payload):
        self.calls.append(payload)
        if self.raises:
            raise self.raises.pop(0)


class Bench:
    """A processor of one route, with a record of its actions."""

    def __init__(self, handler, *, policy=None, sink=None, accept=None):
        self.requeue, self.sink, self.slept = Requeue(), sink or Sink(), []
        policy = policy or RetryPolicy(3, 2.0)
        failures = None if policy.attempts is None else self.sink
        routes = {ResumeVideo: Route(handler, policy, failures, accept)}
        self.processor = Processor(routes, self.requeue, now=lambda: NOW, sleep=self._sleep)

    async def _sleep(self, seconds):
        self.slept.append(seconds)

    async def process(self, payload=None, *, extra=None, is_retry=True, **counts):
        event = envelope(payload or ResumeVideo(video_id=ID), source="/test") | (extra or {})
        return await self.processor.process("queue", json.dumps(event).encode(), is_retry=is_retry, **counts)


async def test_handled_message_is_done():
    handler = Handler()
    bench = Bench(handler)
    assert await bench.process() == ("done", "")
    assert handler.calls == [ResumeVideo(video_id=ID)]
    assert not bench.requeue.messages


@pytest.mark.parametrize("body", [b"not json", b"{}"])
async def test_message_that_cannot_be_understood_is_refused(body):
    with pytest.raises(Undecodable):
        await Bench(Handler()).processor.process("queue", body)


async def test_message_of_another_queue_is_refused():
    with pytest.raises(Undecodable, match=r"video\.delete is not for the queue queue"):
        await Bench(Handler()).process(DeleteVideo(video_id=ID))


async def test_message_is_handled_again_when_postgres_was_unavailable():
    handler = Handler(DatabaseUnavailable("away"), DatabaseUnavailable("away"))
    bench = Bench(handler)
    assert await bench.process() == ("done", "")
    assert (len(handler.calls), len(bench.slept)) == (3, 2)


async def test_message_is_handled_again_when_its_failure_could_not_be_recorded():
    class Away(Sink):
        async def begin(self, payload):
            record = await super().begin(payload)

            async def away_once(given_up):
                if len(self.begun) == 1:
                    raise DatabaseUnavailable("away")
                return await record(given_up)

            return away_once

    bench = Bench(Handler(CorruptSource("cut"), CorruptSource("cut")), sink=Away())
    assert await bench.process() == ("failed", "corrupt_source")
    assert len(bench.slept) == 1


async def test_failed_message_returns_to_its_queue_with_one_attempt_more():
    bench = Bench(Handler(EncodeFailed("broken")))
    assert await bench.process(attempt=1) == ("retried", "encode_failed")
    [(event, payload, how)] = bench.requeue.messages
    assert (payload, how["queue"], how["attempt"]) == (ResumeVideo(video_id=ID), "queue", 2)
    assert 4 * (1 - JITTER) <= how["delay_seconds"] <= 4 * (1 + JITTER)
    assert decode(json.dumps(event.model_dump(mode="json", exclude_none=True)).encode())[1] == payload


async def test_patience_is_carried_by_the_message():
    policy = RetryPolicy(3, 2.0, {StorageUnavailable: 60.0})
    bench = Bench(Handler(StorageUnavailable("503"), StorageUnavailable("503")), policy=policy)
    assert await bench.process() == ("retried", "storage_unavailable")
    assert bench.requeue.messages[0][2]["failing_since"] == NOW
    since = {"failingsince": (NOW - timedelta(seconds=61)).isoformat()}
    assert await bench.process(extra=since) == ("failed", "storage_unavailable")


@pytest.mark.parametrize("since", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)])
async def test_history_that_a_platform_claims_is_ignored(since):
    bench = Bench(Handler(StorageUnavailable("503")), policy=RetryPolicy(3, 2.0, {StorageUnavailable: 60.0}))
    claimed = {"failingsince": since.isoformat()}
    outcome = await bench.process(extra=claimed, attempt=99, is_retry=False)
    assert outcome == ("retried", "storage_unavailable"), "its patience is not over"
    [(_, _, how)] = bench.requeue.messages
    assert (how["failing_since"], how["attempt"]) == (NOW, 0)


async def test_time_in_the_future_does_not_prolong_patience():
    bench = Bench(Handler(StorageUnavailable("503")), policy=RetryPolicy(3, 2.0, {StorageUnavailable: 60.0}))
    ahead = {"failingsince": (NOW + timedelta(days=400)).isoformat()}
    await bench.process(extra=ahead)
    assert bench.requeue.messages[0][2]["failing_since"] == NOW


@pytest.mark.parametrize(
    ("wanted", "outcome"), [(True, ("failed", "corrupt_source")), (False, ("superseded", ""))]
)
async def test_failure_is_recorded_once_and_only_for_work_still_needed(wanted, outcome):
    bench = Bench(Handler(CorruptSource("cut")), sink=Sink(wanted=wanted))
    assert await bench.process() == outcome
    [given_up] = bench.sink.given_up
    assert (given_up.error.message, given_up.retryable) == ("cut", False)


async def test_message_that_kills_its_workers_fails_after_it_was_accepted():
    accepted, handler = Handler(), Handler()
    bench = Bench(handler, accept=accepted)
    assert await bench.process(deliveries=8) == ("failed", "worker_lost")
    assert (len(accepted.calls), len(handler.calls)) == (1, 0)


async def test_message_is_not_handled_when_it_is_not_accepted():
    handler = Handler()
    assert await Bench(handler, accept=Handler(Superseded("another's"))).process() == ("superseded", "")
    assert not handler.calls


async def test_route_without_a_sink_never_gives_up():
    bench = Bench(Handler(CorruptSource("x")), policy=RetryPolicy(None, 1.0))
    assert await bench.process(attempt=99) == ("retried", "corrupt_source")


def test_route_has_a_sink_exactly_when_it_may_give_up():
    with pytest.raises(ValueError, match="sink"):
        Route(Handler(), RetryPolicy(3, 1.0), failures=None)
    with pytest.raises(ValueError, match="sink"):
        Route(Handler(), RetryPolicy(None, 1.0), Sink())


async def test_context_of_a_message_is_in_every_line_of_the_log(capsys):
    await Bench(Handler(EncodeFailed("broken"))).process(extra={"requestid": "abc"})
    line = capsys.readouterr().out
    assert f"video_id='{ID}'" in line
    assert "request_id='abc'" in line
    assert "message_type='video.resume'" in line
