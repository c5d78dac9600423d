from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from services.transcoder.sources.allowed_sources import BucketPrefix, SourcePolicy
from services.transcoder.sources.fetch import Sources
from shared.errors import SourceUnavailable
from shared.settings import SourceSettings
from shared.workspace.disk_budget import DiskBudget
from shared.workspace.layout import WorkDir

if TYPE_CHECKING:
    from pathlib import Path

VIDEO, OTHER = UUID(int=1), UUID(int=2)


def policy(root: Path, **given: str) -> SourcePolicy:
    settings = SourceSettings(work_dir=root, **given)
    listed = {"dirs": settings.source_dirs, "buckets": settings.source_buckets}
    return SourcePolicy.of(settings.work_dir, **listed, own_buckets=["videos", "archive"])


@pytest.mark.parametrize(
    "name",
    [
        f"originals/{OTHER}/source",
        f"originals/{VIDEO}/other",
        f"chunks/{VIDEO}/00000-1/360p/segment_001.ts",
        f"media/hls/alice/{OTHER}/360p/segment_001.ts",
        f"uploads/{OTHER}.part",
        f"incoming/../originals/{OTHER}/source",
        f"incoming/link/{OTHER}/source",
        f"%6friginals/{OTHER}/source",
    ],
)
async def test_files_of_the_pipeline_are_no_source(tmp_path: Path, name: str) -> None:
    for place in ("originals", "chunks", "media", "uploads", "incoming"):
        (tmp_path / place).mkdir()
    (tmp_path / "incoming" / "link").symlink_to(tmp_path / "originals")
    original = tmp_path / "originals" / str(OTHER) / "source"
    original.parent.mkdir()
    original.write_bytes(b"of another")
    sources = Sources(WorkDir(tmp_path), DiskBudget(tmp_path, 0), {}, max_bytes=10, policy=policy(tmp_path))
    for uri in (f"file:{name}", f"file://{tmp_path}/{name}"):
        with pytest.raises(SourceUnavailable, match="of the pipeline itself"):
            await sources.fetch(VIDEO, uri)
        with pytest.raises(SourceUnavailable, match="of the pipeline itself"):
            sources.path(VIDEO, uri)


async def test_an_upload_is_the_source_of_its_own_video_whatever_is_listed(tmp_path: Path) -> None:
    original = WorkDir(tmp_path).original(VIDEO)
    original.parent.mkdir(parents=True)
    original.write_bytes(b"film")
    listed = policy(tmp_path, source_dirs="none")
    sources = Sources(WorkDir(tmp_path), DiskBudget(tmp_path, 0), {}, max_bytes=10, policy=listed)
    assert await sources.fetch(VIDEO, original.as_uri()) == original


def test_files_are_read_from_listed_directories_only(tmp_path: Path) -> None:
    listed = policy(tmp_path, source_dirs=f"incoming, {tmp_path}/platform/a")
    listed.check_file(tmp_path / "incoming" / "deep" / "a.mp4", VIDEO)
    listed.check_file(tmp_path / "platform" / "a" / "a.mp4", VIDEO)
    for name in ("a.mp4", "platform/a.mp4", "platform/ab/a.mp4", "incoming2/a.mp4"):
        with pytest.raises(SourceUnavailable, match="SOURCE_DIRS"):
            listed.check_file(tmp_path / name, VIDEO)
    policy(tmp_path).check_file(tmp_path / "anywhere" / "a.mp4", VIDEO)
    with pytest.raises(SourceUnavailable, match="SOURCE_DIRS"):
        policy(tmp_path, source_dirs="none").check_file(tmp_path / "a.mp4", VIDEO)


@pytest.mark.parametrize(
    ("bucket", "key"),
    [
        ("videos", "hls/alice/x/360p/segment_001.ts"),
        ("archive", "hls/alice/x/360p/segment_001.ts"),
        ("videos", "/hls/alice/x"),
        ("videos", "x/../hls/alice/x"),
        ("videos", "./hls/alice/x"),
        ("videos", "hls//x"),
        ("arn:aws:s3:eu-west-1:1:accesspoint:videos", "hls/alice/x"),
        ("videos:80", "hls/alice/x"),
        ("user@videos", "hls/alice/x"),
        ("..", "videos"),
    ],
)
def test_objects_that_the_pipeline_keeps_are_no_source(tmp_path: Path, bucket: str, key: str) -> None:
    with pytest.raises(SourceUnavailable):
        policy(tmp_path).check_object(bucket, key)


def test_objects_are_read_from_listed_buckets_and_prefixes_only(tmp_path: Path) -> None:
    policy(tmp_path).check_object("anything", "a.mp4")
    policy(tmp_path).check_object("videos", "incoming/a.mp4")
    listed = policy(tmp_path, source_buckets="incoming, shared/alice/")
    listed.check_object("incoming", "a.mp4")
    listed.check_object("shared", "alice/a.mp4")
    for bucket, key in (("videos", "incoming/a.mp4"), ("shared", "alice2/a.mp4"), ("shared", "bob/a.mp4")):
        with pytest.raises(SourceUnavailable, match="SOURCE_BUCKETS"):
            listed.check_object(bucket, key)


def test_a_fetched_source_is_checked_before_its_server_is_contacted(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable):
        policy(tmp_path, source_buckets="none").check_object("incoming", str(uuid4()))


def test_originals_in_the_work_bucket_are_no_sources(tmp_path: Path) -> None:
    chosen = SourcePolicy.of(tmp_path, own_buckets=["videos"], own_prefixes=[BucketPrefix("videos", "work")])
    for key in (f"work/originals/{OTHER}/source", "work/chunks/a", f"hls/alice/{OTHER}/master.m3u8"):
        with pytest.raises(SourceUnavailable, match="of the pipeline itself"):
            chosen.check_object("videos", key)
    chosen.check_object("videos", "workshop/film.mp4")
    chosen.check_object("other", f"work/originals/{OTHER}/source")
