"""Which registered segments can be put before their chunk is encoded, and how what is put is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import REGISTRY

from services.uploader.handlers.put_segments import whole_segments
from shared.contracts.events import Segment
from tests.uploader_handlers import store_handler

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.messaging.outbox import Outbox
    from shared.storage.memory import MemoryStorage
    from shared.workspace.layout import WorkDir
    from tests.sample_video import SampleVideo


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


async def test_what_is_put_is_counted_by_the_name_of_the_storage(
    outbox: Outbox,
    work_dir: WorkDir,
    memory_storage: MemoryStorage,
    new_video: Callable[..., SampleVideo],
) -> None:
    video = await new_video().encoded()
    memory_storage.name = "archive"
    await store_handler(outbox, work_dir, memory_storage).store(video.segmented(video.chunks[0]))
    put = [len(body) for key, (_, body) in memory_storage.objects.items() if key.endswith(".ts")]
    assert put
    assert REGISTRY.get_sample_value("vod_stored_objects_total", {"storage": "archive"}) == len(put)
    assert REGISTRY.get_sample_value("vod_stored_bytes_total", {"storage": "archive"}) == sum(put)
