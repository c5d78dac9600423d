"""What anyone with a login may publish: bodies, envelopes, headers."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from hypothesis import strategies as st

from shared.contracts.cloudevents import Undecodable, decode
from shared.contracts.events import PAYLOADS
from shared.messaging.consumer import counts_of
from shared.names import storage_prefix
from tests.fuzz.budget import fuzz

if TYPE_CHECKING:
    from aio_pika.abc import AbstractIncomingMessage

NUMBERS = st.integers() | st.floats() | st.sampled_from([-(2**40), 2**31, 2**63, 2**64, True])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
IDS = st.uuids().map(str) | st.text(max_size=40)
FIELDS = {
    "videoId": IDS | JSON,
    "userId": st.sampled_from(["alice", "../alice", "a b", "a" * 65, "alice\n"]) | JSON,
    "source": st.fixed_dictionaries({}, optional={"uri": st.text(max_size=30) | JSON}) | JSON,
    "filename": JSON,
    "qualities": st.lists(st.text(max_size=8)) | JSON,
    "chunk": NUMBERS,
    "chunks": NUMBERS,
    "segments": JSON,
}
ENVELOPE = {
    "specversion": st.just("1.0") | JSON,
    "id": IDS | JSON,
    "source": st.text(max_size=10) | JSON,
    "type": st.sampled_from(sorted(PAYLOADS)) | JSON,
    "data": st.fixed_dictionaries({}, optional=FIELDS) | JSON,
    "time": JSON,
    "requestid": JSON,
    "failingsince": JSON | st.datetimes().map(str),
}
BODIES = st.fixed_dictionaries({}, optional=ENVELOPE).map(lambda event: json.dumps(event).encode())


def _check_body(body: bytes) -> None:
    try:
        event, payload = decode(body)
    except Undecodable as error:
        assert str(error)
        return
    assert payload.type == event.type
    json.dumps(payload.to_json(), ensure_ascii=False).encode()
    if user_id := getattr(payload, "user_id", None):
        assert storage_prefix(user_id, payload.video_id).count("/") == 2


def test_an_event_is_understood_or_refused_with_a_reason() -> None:
    fuzz(BODIES | st.binary(max_size=200), _check_body)


def _check_headers(headers: dict[str, object]) -> None:
    counts = counts_of(cast("AbstractIncomingMessage", SimpleNamespace(headers=headers, redelivered=True)))
    assert counts.keys() == {"attempt", "deliveries"}
    assert all(type(count) is int and 0 <= count < 2**31 for count in counts.values())


def test_headers_of_a_message_are_numbers_that_the_database_can_count() -> None:
    values = JSON | st.binary(max_size=8) | st.datetimes()
    fuzz(
        st.fixed_dictionaries({}, optional={"x-attempt": values, "x-delivery-count": values}), _check_headers
    )
