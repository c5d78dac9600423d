"""Which registered segments can be put before their chunk is encoded."""

from __future__ import annotations

import pytest

from services.uploader.handlers.put_segments import whole_segments
from shared.contracts.events import Segment


def segment(index: int, rendition: str, attempt: int = 1) -> Segment:
    path = f"chunks/v/00003-{attempt}/{rendition}/segment_{index:03d}.ts"
    return Segment(rendition=rendition, index=index, path=path, duration_seconds=2.0, bytes=4)


REGISTERED = [segment(index, rendition) for index in (8, 9, 10) for rendition in ("360p", "720p")]


@pytest.mark.parametrize(
    ("wrong", "until"),
    [
        ({}, 10),
        ({REGISTERED[0].path: None}, None),
        ({REGISTERED[3].path: None}, 8),
        ({REGISTERED[2].path: 3}, 8),
        ({REGISTERED[5].path: 5}, 9),
    ],
)
def test_segments_are_put_up_to_the_first_that_is_not_as_registered(
    wrong: dict[str, int | None], until: int | None
) -> None:
    found = whole_segments(REGISTERED, lambda path: wrong.get(path, 4))
    assert found == tuple(each for each in REGISTERED if until and each.index <= until)


def test_nothing_is_put_when_nothing_is_registered() -> None:
    assert whole_segments([], lambda _: 4) == ()
