"""What every workspace must do: run on a volume, on a bucket in memory and on a real S3 server alike.

A test class inherits WorkspaceContract and provides the fixtures `work`, an empty workspace, and `other`, the
same one as another process sees it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from shared.storage.memory import MemoryStorage
from shared.workspace import names
from shared.workspace.disk_budget import Reservation, UnlimitedSpace
from shared.workspace.interface import videos_in

if TYPE_CHECKING:
    from uuid import UUID

    from shared.workspace.interface import Upload, Workspace

BODY = bytes(range(256)) * 40


def upload_to(work: Workspace, video_id: UUID) -> Upload:
    return work.begin_upload(video_id, Reservation(UnlimitedSpace(), "alice"))


async def write(work: Workspace, name: str, body: bytes = BODY) -> str:
    """Write a file and hand it over."""
    path = work.scratch.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    await work.hand_over([name])
    return name


async def content(work: Workspace, name: str, **part: int) -> bytes:
    async with work.read(name, **part) as blocks:
        return b"".join([block async for block in blocks])


async def upload(work: Workspace, *blocks: bytes) -> UUID:
    await work.expect_uploads()
    incoming = upload_to(work, uuid4())
    for block in blocks:
        await incoming.write(block)
    await incoming.keep()
    await incoming.release()
    return incoming.video_id


class WorkspaceContract:
    async def test_file_that_is_handed_over_is_read_by_another_process(
        self, work: Workspace, other: Workspace
    ) -> None:
        name = await write(work, f"{names.attempt_at(uuid4(), 3, 1)}/360p/segment_001.ts")
        await work.hand_over([name])
        assert await other.sizes([name, "chunks/gone"]) == {name: len(BODY)}
        assert await content(other, name) == BODY
        assert await content(other, name, start=10, length=5) == BODY[10:15]
        assert await content(other, name, start=len(BODY) - 3, length=50) == BODY[-3:]

    async def test_files_of_an_attempt_are_reported_with_their_sizes(
        self, work: Workspace, other: Workspace
    ) -> None:
        attempt = names.attempt_at(uuid4(), 0, 2)
        made = [
            await write(work, f"{attempt}/{name}/segment_00{number}.ts", b"x" * number)
            for name in ("360p", "720p")
            for number in (1, 2, 3)
        ]
        assert await other.sizes([*made, f"{attempt}/360p/segment_004.ts"]) == {
            name: int(name[-4]) for name in made
        }

    async def test_file_that_changed_is_handed_over_again(self, work: Workspace, other: Workspace) -> None:
        name = await write(work, names.attempt_at(uuid4(), 0, 1) + "/360p/segment_001.ts", b"first")
        await write(work, name, b"second one")
        assert await content(other, name) == b"second one"

    async def test_missing_files_are_reported(self, work: Workspace) -> None:
        with pytest.raises(FileNotFoundError):
            await work.store("chunks/gone", MemoryStorage(), "hls/a/b")
        with pytest.raises(FileNotFoundError, match="has 0 bytes, not 9"):
            await work.store("chunks/gone", MemoryStorage(), "hls/a/b", size_bytes=9)
        with pytest.raises(FileNotFoundError):
            await content(work, "originals/gone/source")

    async def test_file_is_stored_by_another_process(self, work: Workspace, other: Workspace) -> None:
        name, storage = await write(work, "chunks/a/00000-1/360p/segment_001.ts"), MemoryStorage()
        await work.clear_scratch("chunks/a/00000-1")
        assert await other.store(name, storage, "hls/alice/x/360p/segment_001.ts") == len(BODY)
        assert storage.objects["hls/alice/x/360p/segment_001.ts"][1] == BODY

    async def test_file_of_another_size_is_not_stored(self, work: Workspace, other: Workspace) -> None:
        name, storage = await write(work, "chunks/a/00000-1/360p/segment_001.ts"), MemoryStorage()
        with pytest.raises(FileNotFoundError, match=f"has {len(BODY)} bytes, not 9"):
            await other.store(name, storage, "hls/a/b", size_bytes=9)
        assert storage.objects == {}
        assert await other.store(name, storage, "hls/a/b", size_bytes=len(BODY)) == len(BODY)

    async def test_large_file_is_stored(self, work: Workspace, other: Workspace) -> None:
        body, storage = BODY * 1000, MemoryStorage()
        name = await write(work, "chunks/a/00000-1/360p/segment_001.ts", body)
        assert await other.store(name, storage, "hls/alice/x/1.ts") == len(body)
        assert storage.objects["hls/alice/x/1.ts"][1] == body
        assert list(other.scratch.uploads.glob("*")) == []

    async def test_a_discarded_file_is_gone_for_all(self, work: Workspace, other: Workspace) -> None:
        video_id = uuid4()
        gone = await write(work, f"{names.attempt_at(video_id, 0, 1)}/360p/segment_001.ts")
        kept = await write(work, f"{names.attempt_at(video_id, 0, 10)}/360p/segment_001.ts")
        await work.discard(names.attempt_at(video_id, 0, 1))
        assert await other.sizes([gone, kept]) == {kept: len(BODY)}
        assert not (work.scratch.root / gone).exists()
        await work.discard(names.chunks_of(uuid4()))

    async def test_entries_of_a_directory_are_removed(self, work: Workspace, other: Workspace) -> None:
        video_id = uuid4()
        chunk = await write(work, f"{names.attempt_at(video_id, 0, 1)}/360p/segment_001.ts")
        picture = await write(work, f"{names.chunks_of(video_id)}/thumbnail.1.jpg")
        await other.remove(names.chunks_of(video_id), ["00000-1"])
        assert await other.sizes([chunk, picture]) == {picture: len(BODY)}
        await other.remove(picture)
        await other.remove(names.chunks_of(video_id))
        assert await other.sizes([picture]) == {}
        assert await videos_in(other) == set()

    async def test_directories_are_listed_and_measured(self, work: Workspace, other: Workspace) -> None:
        found = {uuid4() for _ in range(60)}
        for video_id in found:
            await write(work, f"{names.attempt_at(video_id, 0, 1)}/360p/segment_001.ts", b"abc")
        one = next(iter(found))
        await write(work, f"{names.chunks_of(one)}/thumbnail.1.jpg", b"jpeg")
        listed = {
            video: names
            for some in [each async for each in other.directories("chunks")]
            for video, names in some.items()
        }
        assert set(listed) == found
        assert sorted(listed[one]) == ["00000-1", "thumbnail.1.jpg"]
        whole = await other.measure(f"chunks/{one}")
        picture = await other.measure(f"chunks/{one}/thumbnail.1.jpg")
        assert whole
        assert picture
        assert picture.bytes == 4
        assert whole.bytes >= 7
        assert whole.changed >= picture.changed - 1
        assert await other.measure("chunks/gone") is None

    async def test_marker_is_read_as_it_was_written(self, work: Workspace, other: Workspace) -> None:
        assert await work.read_marker() is None
        await work.write_marker(b"{}")
        assert await other.read_marker() == b"{}"
        assert await videos_in(work) == set()

    # Uploads

    async def test_upload_becomes_the_original(self, work: Workspace, other: Workspace) -> None:
        blocks = [bytes([number]) * 700_000 for number in range(20)]
        video_id = await upload(work, *blocks)
        original = names.original(video_id)
        assert await other.sizes([original]) == {original: 14_000_000}
        assert await content(other, original) == b"".join(blocks)
        assert other.name_of(work.uri_of(video_id)) == original
        assert await other.unfinished_uploads() == []
        assert await videos_in(other) == {video_id}

    async def test_upload_is_seen_by_others_until_it_is_released(
        self, work: Workspace, other: Workspace
    ) -> None:
        await work.expect_uploads()
        incoming = upload_to(work, uuid4())
        await incoming.write(BODY)
        assert await other.is_uploading(incoming.video_id)
        await incoming.keep()
        assert await other.is_uploading(incoming.video_id)
        assert (incoming.size_bytes, len(incoming.sha256)) == (len(BODY), 64)
        await incoming.release()
        assert not await other.is_uploading(incoming.video_id)

    @pytest.mark.parametrize("size", [10, 12_000_000])
    @pytest.mark.parametrize("is_kept", [True, False])
    async def test_upload_that_is_discarded_leaves_nothing(
        self, work: Workspace, other: Workspace, size: int, is_kept: bool
    ) -> None:
        await work.expect_uploads()
        incoming = upload_to(work, uuid4())
        await incoming.write(b"x" * size)
        if is_kept:
            await incoming.keep()
        await incoming.discard()
        await incoming.write(b"too late")
        await incoming.keep()
        assert await other.sizes([names.original(incoming.video_id)]) == {}
        assert not await other.is_uploading(incoming.video_id)
        assert await videos_in(other) == set()
        assert await work.remove_stale_uploads() == 0
