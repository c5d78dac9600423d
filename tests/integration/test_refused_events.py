"""An event that is understood but cannot become a video is answered, not ignored."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from services.transcoder.handlers.refuse_event import refuse_event
from shared import videos
from shared.contracts.cloudevents import InvalidData, Undecodable, decode
from shared.contracts.events import VideoUploaded
from shared.messaging.outbox import Outbox

if TYPE_CHECKING:
    from shared.database.pool import Database


def body(**data: Any) -> bytes:
    event = {"specversion": "1.0", "id": "1", "source": "/cms", "type": "video.uploaded", "data": data}
    return json.dumps(event).encode()


def refused(**data: Any) -> InvalidData:
    with pytest.raises(InvalidData) as caught:
        decode(body(**data))
    return caught.value


async def sent(database: Database) -> list[dict[str, Any]]:
    async with database.transaction() as connection:
        return [row["message"]["data"] for row in await connection.fetch("select message from outbox")]


@pytest.mark.parametrize(
    ("wrong", "user_id"),
    [
        ({"userId": "al ice"}, "al ice"),
        ({"userId": "x" * 100}, "x" * 64),
        ({"userId": 7}, None),
        ({"source": {"uri": ""}}, "alice"),
        ({"source": None}, "alice"),
        ({"filename": "x" * 2000}, "alice"),
        ({"filename": "a\0b"}, "alice"),
        ({"filename": "\ud800"}, "alice"),
        ({"userId": "\0"}, None),
        ({"userId": "\ud800"}, None),
    ],
)
async def test_an_event_with_invalid_data_is_answered_with_video_failed(
    database: Database, wrong: dict[str, Any], user_id: str | None
) -> None:
    video_id = str(uuid4())
    data = {"videoId": video_id, "userId": "alice", "source": {"uri": "file:a.mp4"}} | wrong
    await refuse_event(Outbox(database, "/test"), refused(**data))
    [failed] = await sent(database)
    assert (failed["videoId"], failed["userId"], failed["stage"]) == (video_id, user_id, "plan")
    assert (failed["reason"], failed["retryable"]) == ("invalid_event", False)
    assert re.search(f"{next(iter(wrong))}|NUL|surrogate", failed["message"])


async def test_a_video_that_was_accepted_is_not_announced_as_failed(database: Database) -> None:
    video_id = uuid4()
    _, event = decode(body(videoId=str(video_id), userId="alice", source={"uri": "file:a.mp4"}))
    assert isinstance(event, VideoUploaded)
    async with database.transaction() as connection:
        await videos.accept(connection, event)
    await refuse_event(Outbox(database, "/test"), refused(videoId=str(video_id), userId="", source={}))
    assert await sent(database) == []


async def test_nothing_is_answered_when_no_video_can_be_identified(database: Database) -> None:
    await refuse_event(Outbox(database, "/test"), refused(videoId="x", userId="alice", source={"uri": "a"}))
    assert await sent(database) == []


def test_a_quality_of_any_form_is_unknown_when_no_preset_has_its_name() -> None:
    _, event = decode(body(videoId=str(uuid4()), userId="alice", source={"uri": "file:a"}, qualities=["4K!"]))
    assert isinstance(event, VideoUploaded)
    assert event.qualities == ["4K!"]
    with pytest.raises(Undecodable):
        decode(b"{")
