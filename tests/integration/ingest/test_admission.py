"""Refused uploads, the answers to them, and that accepted uploads are not affected."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

import pytest

from services.ingest.http.resources import ADMISSION
from services.ingest.uploads.pace import UploadPace
from shared import videos
from shared.settings import Settings
from shared.telemetry.metrics import REFUSED
from shared.videos import retry_and_delete
from shared.workspace import disk_budget
from tests.fake_volume import Volume
from tests.integration.ingest.conftest import assert_problem
from tests.integration.ingest.raw import END, MULTIPART, UPLOAD, part, talk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.ingest.conftest import Api

RESERVE = Settings.model_fields["disk_reserve_bytes"].default
FILM = part("file", bytes(1_000_000), "film.mp4")


@pytest.fixture
def volume(api: Api, monkeypatch: pytest.MonkeyPatch) -> Volume:
    """A volume with 1.5 MB of space above the reserve."""
    volume = Volume(api.work_dir, RESERVE + 1_500_000)
    monkeypatch.setattr(disk_budget.os, "statvfs", volume)
    return volume


def limit(api: Api, monkeypatch: pytest.MonkeyPatch, **limits: int) -> None:
    for name, value in limits.items():
        monkeypatch.setattr(api.client.app[ADMISSION], f"_{name}", value)


def refused(reason: str) -> float:
    return REFUSED.labels(reason)._value.get()


def assert_refused(result: tuple[int, Any, Any], status: int, reason: str) -> None:
    assert_problem(result, status, reason)
    assert int(result[2]["Retry-After"]) > 0


async def answer_to_head(api: Api, length: int, *, key: str = "alice") -> tuple[str, dict[str, str], Any]:
    """Return the answer before any byte of the body is sent: status, headers, connection."""
    head = f"Authorization: Bearer {api.keys[key]}\r\nContent-Length: {length}\r\nExpect: 100-continue"
    reader, writer = await talk(api, head)
    status = (await asyncio.wait_for(reader.readline(), 30)).decode().split(" ")[1]
    headers = {}
    while line := (await asyncio.wait_for(reader.readline(), 30)).decode().strip():
        name, _, value = line.partition(": ")
        headers[name] = value
    return status, headers, (reader, writer)


@asynccontextmanager
async def under_way(api: Api) -> AsyncIterator[Any]:
    """Start an accepted upload of 1 MB; yield a function that finishes it."""
    body = FILM + END
    status, _, (reader, writer) = await answer_to_head(api, len(body))
    assert status == "100"
    writer.write(body[:500_000])
    await writer.drain()

    async def finish() -> str:
        writer.write(body[500_000:])
        return (await asyncio.wait_for(reader.readline(), 30)).decode().split(" ")[1]

    yield finish
    writer.close()


async def test_upload_is_refused_by_its_head_when_it_would_use_the_reserve(api: Api, volume: Volume) -> None:
    before = refused("insufficient_storage")
    status, headers, (_, writer) = await answer_to_head(api, 1_600_000)
    writer.close()
    assert (status, headers["Retry-After"]) == ("507", "30")
    assert headers["Content-Type"].startswith("application/problem+json")
    assert refused("insufficient_storage") == before + 1
    assert api.files() == []
    assert (await api.upload(bytes(1_000_000)))[0] == 202


async def test_upload_is_refused_by_its_head_when_the_space_is_reserved_by_another(
    api: Api, volume: Volume
) -> None:
    async with under_way(api) as finish:
        status, _, (_, writer) = await answer_to_head(api, 1_000_000)
        writer.close()
        assert status == "507"
        assert await finish() == "202"
    [original] = api.files()
    assert (api.work_dir / original).read_bytes() == bytes(1_000_000)


@pytest.mark.parametrize("pace", [UploadPace(write_bytes=100_000)])
async def test_upload_of_unknown_length_is_refused_while_it_grows(api: Api, volume: Volume) -> None:
    async def film() -> AsyncIterator[bytes]:
        yield part("file", b"", "film.mp4").removesuffix(b"\r\n")
        for _ in range(19):
            yield bytes(100_000)

    async with under_way(api) as finish:
        result = await api.call("POST", UPLOAD, data=film(), headers=MULTIPART)
        assert_refused(result, 507, "insufficient_storage")
        assert await finish() == "202"
    assert [name.split("/")[0] for name in api.files()] == ["originals"]


async def test_upload_is_aborted_when_others_fill_the_volume_meanwhile(api: Api, volume: Volume) -> None:
    async with under_way(api) as finish:
        volume.size_bytes = RESERVE
        assert await finish() == "507"
    assert api.files() == []


async def test_upload_is_refused_by_its_head_when_too_many_are_in_progress(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(api, monkeypatch, max_uploads=1)
    before = refused("too_many_uploads")
    async with under_way(api) as finish:
        status, headers, (_, writer) = await answer_to_head(api, 100, key="bob")
        writer.close()
        assert (status, headers["Retry-After"]) == ("503", "5")
        assert_refused(await api.upload(as_="bob"), 503, "too_many_uploads")
        assert refused("too_many_uploads") == before + 2
        assert await finish() == "202"
    assert (await api.upload(as_="bob"))[0] == 202


async def test_slot_is_free_again_when_its_upload_failed(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(api, monkeypatch, max_uploads=1, max_processing=1)
    for _ in range(3):
        assert_problem(await api.upload(b""), 400, "empty_file")
    assert (await api.upload())[0] == 202


async def test_upload_is_refused_by_its_head_when_the_user_has_too_many_videos_in_progress(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(api, monkeypatch, max_processing=2)
    accepted = [(await api.upload())[1]["id"] for _ in range(2)]
    before = refused("too_many_processing")

    status, headers, (_, writer) = await answer_to_head(api, 100)
    writer.close()

    assert (status, headers["Retry-After"]) == ("429", "30")
    assert refused("too_many_processing") == before + 1
    assert_refused(await api.upload(as_="service", userId="alice"), 429, "too_many_processing")
    assert (await api.upload(as_="bob"))[0] == 202
    assert (await api.upload(as_="service", userId="carol"))[0] == 202
    await api.fail(UUID(accepted[0]))
    assert (await api.upload())[0] == 202


async def test_upload_is_never_refused_for_its_user_when_the_limit_is_0(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(api, monkeypatch, max_processing=0)
    assert [(await api.upload())[0] for _ in range(3)] == [202] * 3


async def test_uploads_stay_within_the_limit_when_fifty_arrive_at_once(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(api, monkeypatch, max_processing=10)
    results = await asyncio.gather(*(api.upload(b"film") for _ in range(50)))
    assert sorted(status for status, _, _ in results) == [202] * 10 + [429] * 40
    await only_what_was_accepted_is_there(api, results)


async def test_uploads_stay_within_the_limit_when_other_processes_take_some_too(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nobody_else(*_: Any, **__: Any) -> int:
        return 0

    limit(api, monkeypatch, max_processing=10)
    # The uploads are then unaware of each other until they commit, as in different processes.
    monkeypatch.setattr(videos, "count_processing", nobody_else)
    monkeypatch.setattr(api.client.app[ADMISSION], "_uploads_of", Uncounted())
    results = await asyncio.gather(*(api.upload(b"film") for _ in range(50)))
    assert sorted(status for status, _, _ in results) == [202] * 10 + [429] * 40
    await only_what_was_accepted_is_there(api, results)


class Uncounted(dict[str, int]):
    def __missing__(self, _: str) -> int:
        return 0

    def __setitem__(self, *_: Any) -> None:
        pass

    def __iadd__(self, _: Any) -> Self:
        return self


async def only_what_was_accepted_is_there(api: Api, results: list[tuple[int, Any, Any]]) -> None:
    accepted = {video["id"] for status, video, _ in results if status == 202}
    rows = await api.rows("select video_id from videos")
    assert {str(row["video_id"]) for row in rows} == accepted
    assert set(api.files()) == {f"originals/{video_id}/source" for video_id in accepted}


@pytest.mark.parametrize("takes_turns", [True, False])
async def test_limit_holds_when_two_transactions_meet_because_they_take_turns(
    api: Api, monkeypatch: pytest.MonkeyPatch, takes_turns: bool
) -> None:
    if not takes_turns:
        monkeypatch.setattr(retry_and_delete.sql, "lock_user", lambda *_, **__: asyncio.sleep(0))
    asked, met = asyncio.Event(), asyncio.Event()

    async def begin(*, waits: bool) -> bool:
        async with api.database.transaction() as connection:
            await insert(connection)
            exceeds = await videos.over_quota(connection, "alice", 1)
            asked.set()
            if waits:  # holds its transaction open until the other has tried, or is prevented from trying
                await asyncio.wait([asyncio.create_task(met.wait())], timeout=0.5 if takes_turns else 30)
            met.set()
            return exceeds

    first = asyncio.create_task(begin(waits=True))
    await asked.wait()
    verdicts = [await begin(waits=False), await first]
    assert sorted(verdicts) == ([False, True] if takes_turns else [False, False])


async def insert(connection: Any) -> None:
    await connection.execute(
        "insert into videos (video_id, user_id, source_uri) values (gen_random_uuid(), 'alice', 'file:a')"
    )


async def test_retry_is_refused_when_the_user_has_too_many_videos_in_progress(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(api, monkeypatch, max_processing=1)
    failed = await api.add_video()
    await api.fail(failed)
    other = UUID((await api.upload())[1]["id"])
    path = f"/api/videos/{failed}/retry"

    assert_refused(await api.call("POST", path), 429, "too_many_processing")

    assert (await api.call("GET", f"/api/videos/{failed}"))[1]["status"] == "failed"
    assert await api.rows("select * from outbox where message ->> 'type' = 'video.resume'") == []
    assert_problem(await api.call("POST", f"/api/videos/{other}/retry"), 409, "not_failed")
    await api.fail(other)
    assert (await api.call("POST", path))[0] == 202


@asynccontextmanager
async def held(api: Api, count: int, *, key: str = "alice", length: int = 1000) -> AsyncIterator[list[str]]:
    """Request `count` concurrent uploads without sending bodies; yield the answers."""
    answers = [await answer_to_head(api, length, key=key) for _ in range(count)]
    try:
        yield [status for status, _, _ in answers]
    finally:
        for _, _, (_, writer) in answers:
            writer.close()


async def test_a_user_who_holds_slots_leaves_some_for_others(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(api, monkeypatch, max_uploads=10)
    async with held(api, 20) as of_alice, held(api, 20, key="bob") as of_bob:
        assert of_alice.count("100") == 5
        assert of_alice[5:] == ["503"] * 15
        assert of_bob.count("100") == 3
    async with held(api, 1, key="bob") as again:
        assert again == ["100"]


async def test_a_service_key_may_use_every_slot(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(api, monkeypatch, max_uploads=4)
    async with held(api, 5, key="service") as answers:
        assert answers == ["100"] * 4 + ["503"]


async def test_a_user_who_reserves_the_disk_and_sends_nothing_does_not_block_others(
    api: Api, volume: Volume
) -> None:
    async with held(api, 1, length=1_400_000) as of_alice:
        assert of_alice == ["100"]
        assert (await api.upload(bytes(600_000), as_="bob"))[0] == 202
        assert_refused(await api.upload(bytes(600_000)), 507, "insufficient_storage")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "identity, gzip", "x"])
async def test_compressed_bodies_are_refused_before_they_are_read(api: Api, coding: str) -> None:
    result = await api.call("POST", UPLOAD, data=FILM + END, headers=MULTIPART | {"Content-Encoding": coding})
    assert_problem(result, 415, "unsupported_encoding")
    assert result[2]["Accept-Encoding"] == "identity"
    ladder = await api.call(
        "PUT", "/api/presets", as_="admin", data=b"[]", headers={"Content-Encoding": coding}
    )
    assert_problem(ladder, 415, "unsupported_encoding")


@pytest.mark.parametrize("header", ["Content-Encoding: gzip", "Content-Transfer-Encoding: base64"])
async def test_encoded_parts_of_a_form_are_refused(api: Api, header: str) -> None:
    body = FILM.replace(b"Content-Disposition", f"{header}\r\nContent-Disposition".encode(), 1) + END
    assert_problem(await api.call("POST", UPLOAD, data=body, headers=MULTIPART), 415, "unsupported_encoding")
    assert api.files() == []
