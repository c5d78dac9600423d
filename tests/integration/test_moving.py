"""Videos move between storages: to the last byte, while they play, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import TestClient

from services.streamer import main as streamer
from services.uploader.moving.copy import Copier, Pace
from services.uploader.moving.mover import Mover
from shared import videos
from shared.contracts.events import DeleteVideo
from shared.errors import Deferred, StorageUnavailable, Superseded
from shared.playback.urls import PlaybackUrls
from shared.storage.placement import StorageRules
from shared.storage.storages import Storages
from shared.videos import moves
from tests.integration.test_named_storages import settings as settings  # noqa: PLC0414 - a fixture
from tests.integration.test_named_storages import system as system  # noqa: PLC0414 - a fixture
from tests.service_server import ServiceServer
from tests.uploader_handlers import delete_handler

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from aiohttp.test_utils import TestClient as Client

    from shared.settings import Settings
    from tests.integration.test_named_storages import System

LEASE = 30.0
REPO = Path(__file__).parents[2]


def mover(system: System, storages: Storages | None = None, *, grace_seconds: float = 3600.0) -> Mover:
    return Mover(
        system.database,
        storages or system.storages,
        system.work,
        PlaybackUrls.of(system.settings),
        StorageRules(system.settings.by_storage),
        LEASE,
        grace_seconds,
    )


async def ask(system: System, to: str, **wishes: Any) -> list[UUID]:
    target_id = system.storages.named(to).storage_id
    assert target_id
    async with system.database.transaction() as connection:
        return await moves.request_moves(connection, moves.MoveRequest(to, target_id, **wishes))


async def opened(system: System) -> list[moves.OpenMove]:
    async with system.database.transaction() as connection:
        return await moves.open_moves(connection)


async def content(storage: Any, video_id: UUID) -> dict[str, bytes]:
    found = {}
    for stored in await storage.keys(f"hls/alice/{video_id}"):
        async with storage.read(stored.key) as reader:
            found[stored.key] = await reader.body()
    return found


class Disturbed:
    """A storage that does something else at the put with this number."""

    def __init__(self, storage: Any, at: int, act: Callable[[], Any]) -> None:
        self._storage, self._left, self._act = storage, at, act

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def put_bytes(self, key: str, body: bytes) -> int:
        self._left -= 1
        if self._left == 0:
            await self._act()
        size: int = await self._storage.put_bytes(key, body)
        return size


def disturbed(system: System, name: str, at: int, act: Callable[[], Any]) -> Storages:
    return Storages([Disturbed(each, at, act) if each.name == name else each for each in system.storages])  # type: ignore[misc]


async def test_a_video_moves_completely_and_its_old_objects_are_removed_later(system: System) -> None:
    video_id = await system.make()
    before = await content(system.storages.default, video_id)
    assert await ask(system, "shelf") == [video_id]
    assert await mover(system).work_through()
    assert await content(system.storages.named("shelf"), video_id) == before
    assert await system.where(video_id) == ["default", "shelf"], "players may still have its URLs"
    video = await system.get(video_id)
    streamed = f"http://localhost:8081/api/stream/{video_id}"
    assert (video.storage_name, video.storage_type, video.s3_public_url) == ("shelf", "local", None)
    assert (video.playlist_url, video.status) == (f"{streamed}/master.m3u8", "ready")
    await mover(system, grace_seconds=0).work_through()
    assert await system.where(video_id) == ["shelf"]
    assert await opened(system) == []


@pytest.mark.parametrize(("source", "target"), [("shelf", "vault"), ("vault", "default")])
async def test_videos_move_between_any_two_kinds_of_storage(system: System, source: str, target: str) -> None:
    video_id = await system.make(storage=source)
    before = await content(system.storages.named(source), video_id)
    await ask(system, target)
    await mover(system, grace_seconds=0).work_through()
    assert await system.where(video_id) == [target]
    assert await content(system.storages.named(target), video_id) == before


async def test_only_the_videos_that_were_requested_are_moved(system: System) -> None:
    first, second, other = [await system.make(storage=name) for name in ("shelf", "shelf", "default")]
    shelf = system.storages.named("shelf").storage_id
    assert await ask(system, "vault", video_ids=[first]) == [first]
    assert await ask(system, "vault", source_id=shelf) == [second], "the first is on its way"
    assert await ask(system, "vault", user_id="bob") == []
    await mover(system, grace_seconds=0).work_through()
    assert [await system.where(each) for each in (first, second, other)] == [
        ["vault"],
        ["vault"],
        ["default"],
    ]


async def test_a_video_in_processing_is_left_alone_or_waited_for(system: System) -> None:
    video_id = await system.accept()
    assert await ask(system, "shelf") == []
    assert await ask(system, "shelf", waits=True) == [video_id]
    await mover(system).work_through()
    assert [each.status for each in await opened(system)] == ["waiting"]
    await system.store(video_id)
    await mover(system, grace_seconds=0).work_through()
    assert await system.where(video_id) == ["shelf"]


async def test_a_mover_continues_where_another_one_died(system: System) -> None:
    video_id = await system.make()

    async def die() -> None:
        raise StorageUnavailable("the network is down")

    await ask(system, "shelf")
    await mover(system, disturbed(system, "shelf", 3, die)).work_through()
    [left] = await opened(system)
    assert (left.status, (await system.get(video_id)).storage_name) == ("copying", "default")
    again: list[str] = []
    shelf = system.storages.named("shelf")

    class Counting(Disturbed):
        async def put_bytes(self, key: str, body: bytes) -> int:
            again.append(key)
            return await super().put_bytes(key, body)

    every = len(await content(system.storages.default, video_id))
    counting = Storages([Counting(each, 0, die) if each is shelf else each for each in system.storages])  # type: ignore[misc]
    await mover(system, counting, grace_seconds=0).work_through()
    assert await system.where(video_id) == ["shelf"]
    assert 0 < len(again) < every


async def test_a_storage_that_keeps_something_else_is_noticed_and_the_video_stays(system: System) -> None:
    video_id = await system.make()

    class Wrong(Disturbed):
        async def put_bytes(self, key: str, body: bytes) -> int:
            return await super().put_bytes(key, body[:-1] + b"?")

    wrong = Storages([Wrong(e, 0, asyncio.Event) if e.name == "shelf" else e for e in system.storages])  # type: ignore[misc]
    await ask(system, "shelf")
    await mover(system, wrong).work_through()
    assert (await system.get(video_id)).storage_name == "default"
    assert [each.status for each in await opened(system)] == ["copying"]


async def test_a_repair_that_begins_meanwhile_invalidates_the_copy(system: System) -> None:
    video_id = await system.make()

    async def reopen() -> None:
        async with system.database.transaction() as connection:
            record = await videos.audited(connection, video_id)
            assert record
            assert await videos.reopen(connection, record.video, store={0}, encode=())

    await ask(system, "shelf")
    await mover(system, disturbed(system, "shelf", 2, reopen)).work_through()
    assert (await system.get(video_id)).storage_name == "default"
    await system.store(video_id)
    assert await system.where(video_id) == ["default", "shelf"]
    await mover(system, grace_seconds=0).work_through()
    assert await system.where(video_id) == ["shelf"]
    assert (await system.get(video_id)).status == "ready"


async def test_a_video_that_becomes_private_meanwhile_goes_to_no_public_storage(
    system: System,
) -> None:
    video_id = await system.make(storage="vault")

    async def hide() -> None:
        async with system.database.transaction() as connection:
            await videos.change(connection, video_id, videos.Change(visibility="private"))

    await ask(system, "default")
    await mover(system, disturbed(system, "default", 1, hide)).work_through()
    assert (await system.get(video_id)).storage_name == "vault"
    await mover(system).work_through()
    [failed] = await opened(system)
    assert failed.status == "failed"
    assert "it is private, and anyone can read the storage default" in (failed.error or "")


async def test_a_damaged_video_stays_where_it_is(system: System) -> None:
    video_id = await system.make(storage="shelf")
    await system.storages.named("shelf").delete(f"hls/alice/{video_id}/360p/segment_001.ts")
    await ask(system, "vault")
    await mover(system).work_through()
    [failed] = await opened(system)
    assert (failed.status, failed.error) == (
        "failed",
        "1 objects are missing or damaged: run fsck --repair first",
    )
    assert await system.where(video_id) == ["shelf"]


@pytest.mark.parametrize("is_switched", [False, True])
async def test_deleting_a_video_on_its_way_removes_both_copies(system: System, is_switched: bool) -> None:
    video_id = await system.make()

    async def delete() -> None:
        async with system.database.transaction() as connection:
            await videos.delete(connection, video_id)

    async def nothing() -> None:
        pass

    await ask(system, "shelf")
    at_third = nothing if is_switched else delete
    await mover(system, disturbed(system, "shelf", 3, at_third)).work_through()
    if is_switched:
        await delete()
    assert await system.where(video_id) == ["default", "shelf"]
    deleting = delete_handler(system.outbox, system.work, *system.storages)
    with pytest.raises(Deferred):
        await deleting.delete(DeleteVideo(video_id=video_id))
    await deleting.delete(DeleteVideo(video_id=video_id))
    assert (await system.where(video_id), await opened(system)) == ([], [])


async def test_one_process_moves_at_a_time(system: System) -> None:
    await system.make()
    await ask(system, "shelf")
    results = await asyncio.gather(*(mover(system).work_through() for _ in range(3)))
    assert results.count(True) >= 1
    assert [each.status for each in await opened(system)] == ["switched"]


async def test_a_superseded_mover_switches_nothing(system: System) -> None:
    video_id = await system.make()
    await ask(system, "shelf")
    shelf = system.storages.named("shelf")
    async with system.database.transaction() as connection:
        late = await moves.claim_move(connection, video_id, lease_seconds=LEASE)
        await moves.claim_move(connection, video_id, lease_seconds=LEASE)
    to = moves.Switched(shelf.location, None, "x", "x", is_public=False)
    with pytest.raises(Superseded):
        async with system.database.transaction() as connection:
            await moves.switch_storage(connection, late, to)
    assert (await system.get(video_id)).storage_name == "default"


async def test_pace_lets_no_more_through_than_it_should() -> None:
    now, slept = [0.0], []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += max(seconds, 0.0)

    pace = Pace(1000, clock=lambda: now[0], sleep=sleep)
    for _ in range(10):
        await pace.spend(500)
    assert now[0] == pytest.approx(5.0)
    assert slept == pytest.approx([0.5] * 10)


async def test_a_large_object_is_spooled_in_a_file_that_is_removed_afterwards(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.uploader.moving.copy.MEMORY_BYTES", 3)
    source, target = system.storages.named("shelf"), system.storages.default
    await source.put_bytes("hls/alice/x/a.ts", b"film")
    spool = system.work.root / "spool"
    copied = await Copier(source, target, Pace(None), lambda: spool).copy("hls/alice/x/a.ts")
    async with target.read("hls/alice/x/a.ts") as reader:
        assert (await reader.body(), copied.size_bytes) == (b"film", 4)
    assert not spool.exists()


class Players:
    """Players who fetch everything of random videos, again and again, and note what goes wrong.

    Like every player they ask once more after a 503.
    """

    def __init__(self, client: Client[Any, Any], made: list[UUID]) -> None:
        self.client, self.made, self.faults, self.played = client, made, [], 0  # type: ignore[var-annotated]

    async def play(self, number: int) -> None:
        while True:
            video_id = self.made[(self.played * 7 + number) % len(self.made)]
            for path, kind in (("master.m3u8", b"#EXTM3U"), ("360p/playlist.m3u8", b"#EXTM3U")):
                await self._get(video_id, path, kind)
            await self._get(video_id, "360p/segment_001.ts", b"film")
            self.played += 1

    async def _get(self, video_id: UUID, path: str, begin: bytes) -> None:
        got = await self.client.get(f"/api/stream/{video_id}/{path}")
        if got.status == 503:
            await asyncio.sleep(1)
            got = await self.client.get(f"/api/stream/{video_id}/{path}")
        body = await got.read()
        if got.status != 200 or not body.startswith(begin):
            self.faults.append((video_id, path, got.status, body[:200]))


def environment(settings: Settings, storages_file: Path) -> dict[str, str]:
    """Return the variables of a command that runs with these settings."""
    tables = {
        each.name: {"directory": str(each.directory), "choosable": each.choosable, "private": each.private}
        for each in settings.storages
    }
    storages_file.write_text(json.dumps(tables))
    names = ("storage_type", "s3_bucket", "s3_endpoint_url", "s3_region", "s3_access_key_id", "s3_public_url")
    names += ("work", "s3_work_bucket", "s3_work_prefix")
    given = {name.upper(): str(getattr(settings, name)) for name in names}
    secrets = ("database_url", "rabbitmq_url", "s3_secret_access_key")
    given |= {name.upper(): getattr(settings, name).get_secret_value() for name in secrets}
    own = {"WORK_DIR": str(settings.work_dir), "STORAGES": str(storages_file), "LEASE_SECONDS": "2"}
    return {**os.environ, **given, **own, "MOVE_GRACE_SECONDS": "3"}


async def move_and_kill(settings: Settings, storages_file: Path, *, kills: int, rate: int) -> int:
    """Run `storage move` from default to shelf, killing it `kills` times; return its exit code."""
    command = ["-m", "services.uploader", "storage", "move", "--from", "default", "--to", "shelf"]
    command += ["--bytes-per-second", str(rate)]
    for left in range(kills, -1, -1):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            cwd=REPO,
            env=environment(settings, storages_file),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout
        if left:
            await process.stdout.readline()  # it has moved one
            await asyncio.sleep(0.05 * left)
            process.send_signal(signal.SIGKILL)
        await process.communicate()
    assert process.returncode is not None
    return process.returncode


@pytest.mark.parametrize(
    ("count", "players", "kills"),
    [(6, 2, 2), pytest.param(50, 5, 5, marks=pytest.mark.long)],
    ids=["small", "full"],
)
async def test_videos_move_while_they_play_and_their_mover_is_killed(
    system: System, tmp_path: Path, count: int, players: int, kills: int
) -> None:
    made = [await system.make() for _ in range(count)]
    before = [await content(system.storages.default, each) for each in made]
    total = sum(len(body) for each in before for body in each.values())
    proxied = system.settings.model_copy(update={"delivery": "proxy"})
    async with TestClient(ServiceServer(streamer.create_app(proxied))) as client:
        audience = Players(client, made)
        playing = [asyncio.create_task(audience.play(number)) for number in range(players)]
        rate = max(total // 6, 1)  # about six seconds in all
        assert await move_and_kill(system.settings, tmp_path / "s.json", kills=kills, rate=rate) == 0
        await asyncio.sleep(3.5)
        await mover(system, grace_seconds=3).work_through()
        await asyncio.sleep(2)
        for task in playing:
            task.cancel()
        done = await asyncio.gather(*playing, return_exceptions=True)
    assert [each for each in done if not isinstance(each, asyncio.CancelledError)] == []
    assert audience.faults == []
    assert audience.played > players
    shelf = system.storages.named("shelf")
    assert [await content(shelf, each) for each in made] == before
    assert [await system.where(each) for each in made] == [["shelf"]] * count
    assert await opened(system) == []
    assert list((system.work.root / "uploads").glob("*")) == []
