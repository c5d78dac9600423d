from __future__ import annotations

import json
from uuid import UUID, uuid4

import pytest

from shared.contracts.cloudevents import Undecodable, decode, envelope
from shared.contracts.events import EncodeChunk, VideoUploaded

VIDEO = UUID("6f1f64c0-0000-4000-8000-000000000001")


def uploaded(**data):
    fields = {"videoId": str(VIDEO), "userId": "alice", "source": {"uri": "file:///work/a.mp4"}} | data
    return {"specversion": "1.0", "id": "1", "source": "/platform", "type": "video.uploaded", "data": fields}


def body(event) -> bytes:
    return json.dumps(event).encode()


def test_decode_returns_the_payload_when_a_platform_sends_only_what_is_required():
    event, payload = decode(body(uploaded()))
    assert event.id == "1"
    assert payload == VideoUploaded(video_id=VIDEO, user_id="alice", source={"uri": "file:///work/a.mp4"})


def test_decode_lets_unknown_fields_pass_when_a_newer_sender_adds_some():
    _, payload = decode(body(uploaded(colour="blue")))
    assert payload.video_id == VIDEO


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"\xff", "not valid JSON"),
        (b"[]", "body"),
        (b"{", "not valid JSON"),
        (body(uploaded(videoId="x")), "videoId"),
        (body(uploaded(userId="../etc")), "userId"),
        (body(uploaded(userId="a" * 65)), "userId"),
        (body(uploaded(qualities=["x" * 65])), "qualities"),
        (body(uploaded() | {"type": "video.burnt"}), "unknown event type 'video.burnt'"),
        (body(uploaded() | {"specversion": "2.0"}), "specversion"),
        (body(uploaded(chunk=2**31) | {"type": "chunk.encode"}), "chunk"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"n": ' + b"1" * 5000 + b"}", "not valid JSON"),
        (b'{"n": NaN}', "not valid JSON"),
        (body(uploaded(filename="a\0b")), "NUL"),
        (body(uploaded(filename="\ud800")), "surrogate"),
        (body(uploaded() | {"type": "x" * 1000}), "x{100}'$"),
    ],
)
def test_decode_names_the_fault_when_a_message_cannot_be_understood(message, why):
    with pytest.raises(Undecodable, match=why):
        decode(message)


def test_envelope_round_trips_when_decoded():
    command = EncodeChunk(video_id=uuid4(), chunk=3)
    event, payload = decode(body(envelope(command, source="/transcoder", request_id="r1")))
    assert (payload, event.requestid, event.subject) == (command, "r1", str(command.video_id))


def test_first_chunk_has_a_queue_of_its_own_when_it_is_routed():
    keys = [EncodeChunk(video_id=VIDEO, chunk=chunk).routing_key for chunk in (0, 1)]
    assert keys == ["chunk.encode.first", "chunk.encode.bulk"]
