"""What is available to repair a damaged video."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.uploader.fsck.check import MANY, Damage, Findings
from services.uploader.fsck.expected import Expected, Fault
from services.uploader.fsck.repair_plan import plan_repair
from shared.videos import Audited, AuditedSegment
from shared.workspace.layout import WorkDir
from shared.workspace.volume import VolumeWorkspace
from tests.unit.video_values import ID, video

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = f"hls/alice/{ID}"
SEGMENTS = tuple(
    AuditedSegment(name, chunk + 1, chunk, 1, f"chunks/{chunk}/{name}.ts", 10.0, 4)
    for chunk in (0, 1)
    for name in ("720p", "360p")
)
LOST_SEGMENTS = tuple(
    Fault(ID, f"{PREFIX}/360p/segment_00{chunk + 1}.ts", Expected(4, chunk), None) for chunk in (0, 1)
)
LOST_MASTER = Fault(ID, f"{PREFIX}/master.m3u8", Expected(100), None)
LOST_THUMBNAIL = Fault(ID, f"{PREFIX}/thumbnail.jpg", Expected(100), None)


@pytest.fixture
def work(tmp_path: Path) -> WorkDir:
    """A work volume with the files of chunk 0, one of which is cut in chunk 1."""
    for segment in SEGMENTS:
        path = tmp_path / segment.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"film")
    (tmp_path / SEGMENTS[3].path).write_bytes(b"fi")
    return WorkDir(tmp_path)


def record(source_bytes: int | None = 4) -> Audited:
    return Audited(
        video(
            status="ready", source_uri=f"file:originals/{ID}/source", thumbnail_path="chunks/thumbnail.1.jpg"
        ),
        source_bytes,
        SEGMENTS,
        {},
        {},
    )


def put_original(work: WorkDir) -> None:
    work.original_dir(ID).mkdir(parents=True)
    work.original(ID).write_bytes(b"film")


async def test_chunk_is_stored_again_when_all_its_files_exist(work: WorkDir) -> None:
    put_original(work)
    found = await plan_repair(VolumeWorkspace(work), record(), LOST_SEGMENTS)
    assert (found.kept, found.again, found.lost, found.can_repair) == ({0}, {1}, set(), True)


@pytest.mark.parametrize(("original", "source_bytes"), [(False, 4), (True, 5)])
async def test_chunk_is_lost_when_the_original_is_gone_or_was_replaced(
    work: WorkDir, original: bool, source_bytes: int
) -> None:
    if original:
        put_original(work)
    found = await plan_repair(VolumeWorkspace(work), record(source_bytes), LOST_SEGMENTS[1:])
    assert (found.kept, found.again, found.lost, found.can_repair) == (set(), set(), {1}, False)


async def test_plan_without_a_size_accepts_any_original(work: WorkDir) -> None:
    put_original(work)
    assert (await plan_repair(VolumeWorkspace(work), record(None), LOST_SEGMENTS[1:])).again == {1}


async def test_playlists_can_be_written_when_segments_are_lost_for_good(work: WorkDir) -> None:
    found = await plan_repair(VolumeWorkspace(work), record(), (*LOST_SEGMENTS[1:], LOST_MASTER))
    assert (found.lost, found.can_repair) == ({1}, True)


@pytest.mark.parametrize("has", ["original", "thumbnail", "nothing"])
async def test_thumbnail_is_lost_when_neither_it_nor_the_original_exists(work: WorkDir, has: str) -> None:
    if has == "original":
        put_original(work)
    elif has == "thumbnail":
        (work.root / "chunks/thumbnail.1.jpg").write_bytes(b"jpeg")
    found = await plan_repair(VolumeWorkspace(work), record(), (LOST_THUMBNAIL,))
    assert bool(found.lost_artifacts) is (has == "nothing")
    assert found.can_repair is (has != "nothing")


@pytest.mark.parametrize(
    ("stored", "damaged", "expected"),
    [
        (MANY, MANY, False),
        (50, 25, False),
        (50, 26, True),
        (MANY + 1, MANY + 1, True),
    ],
)
def test_findings_are_suspicious_when_most_of_many_videos_are_damaged(
    stored: int, damaged: int, expected: bool
) -> None:
    findings = Findings(200, stored, damaged=[Damage(record().video, LOST_SEGMENTS)] * damaged)
    assert findings.is_suspicious is expected
