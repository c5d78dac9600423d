"""How much of an original the S3 server sends: to ten nodes that share its sixty chunks, and to a planner."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from services.transcoder.byte_spans import merged
from services.transcoder.plan.ladder import Preset
from services.transcoder.plan.make_plan import make_plan
from services.transcoder.sources.bucket_originals import BucketOriginals
from services.transcoder.sources.node_cache import NodeCache
from shared.service.workspace import open_workspace
from shared.workspace.disk_budget import DiskBudget
from tests.chaos.faults.s3_proxy import S3Proxy
from tests.large_film import make_large_film
from tests.media import Clip, make_clip
from tests.sparse_s3 import SparseS3

SMALL = (Preset("96p", 96, 300_000, 64_000),)
NODES, LOOPS = 10, 149  # of a clip of 24 s: an hour
PICTURE = "testsrc2=size=320x180:rate=25:duration=24"
GIB = 1024**3


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    inputs = ["-f", "lavfi", "-i", PICTURE, "-f", "lavfi", "-i", "sine=duration=24"]
    rate = ["-b:v", "300k", "-maxrate", "300k", "-bufsize", "300k"]
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "100", *rate, "-c:a", "aac", "-b:a", "64k"]
    subprocess.run(["ffmpeg", "-loglevel", "error", *inputs, *codecs, path], check=True)
    return path


def looped(clip, film):
    loop = ["ffmpeg", "-loglevel", "error", "-stream_loop", str(LOOPS), "-i", clip, "-c", "copy", film]
    subprocess.run(loop, check=True)
    return film


@pytest.fixture
async def proxy(servers):
    started = await S3Proxy.start(servers.s3_endpoint_url)
    yield started
    await started.close()


@pytest.fixture
def workspace(servers, tmp_path):
    """Return a function that opens a work bucket at an S3 server."""

    @asynccontextmanager
    async def opened(url):
        values = {"storage_type": "s3", "work": "bucket", "s3_work_prefix": f"work-{uuid4().hex}"}
        settings = servers.settings(work_dir=tmp_path / "scratch", s3_endpoint_url=url, **values)
        async with open_workspace(settings) as work:
            yield work

    return opened


@pytest.fixture
async def counted(proxy, workspace):
    """Yield a work bucket and the counter of requests to it."""
    async with workspace(proxy.url) as work:
        yield work, proxy
        await work.storage.delete_prefix(work.prefix)


def node(work, directory):
    """Return a reader of originals, as on a separate node."""
    cache = NodeCache(directory, DiskBudget(directory.parent, 0), max_bytes=10**12)
    return BucketOriginals(work, cache, {}, max_bytes=10**12)


async def upload(work, film):
    """Put a film; return its video and URI."""
    video_id = uuid4()
    await work.storage.put_file(f"{work.prefix}/originals/{video_id}/source", film)
    return video_id, work.uri_of(video_id)


@pytest.mark.parametrize(("suffix", "limit"), [("mp4", 1.3), ("mov", 1.3), ("mkv", 1.3), ("ts", 1.5)])
async def test_sixty_chunks_on_ten_nodes_fetch_little_more_than_the_original(
    suffix, limit, clip, counted, tmp_path
):
    work, proxy = counted
    film = looped(clip, tmp_path / f"film.{suffix}")
    plan = await make_plan(film, SMALL)
    assert len(plan.chunks) >= 60
    chunks = defaultdict(list)
    for chunk in plan.chunks:
        chunks[chunk.index % NODES].append(chunk)
    original = await upload(work, film)
    for number, own in chunks.items():
        for chunk in own:
            async with node(work, tmp_path / f"node{number}").open(*original) as source:
                await source.need(merged([*plan.head, *chunk.reads.spans]))
    ratio = proxy.sent_bytes["GET"] / film.stat().st_size
    print(f"{suffix}: {ratio:.3f} of {film.stat().st_size} bytes, {proxy.requests['GET']} requests")
    assert 1 <= ratio <= limit


async def test_film_of_20_gb_is_planned_with_less_than_a_hundredth_of_it(workspace, tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", Clip(frames=600, audio_rate=None))
    server = SparseS3(make_large_film(looped(clip, tmp_path / "film.mp4"), tmp_path / "large", 20 * GIB))
    async with server.serving() as url, workspace(url) as work:
        originals, video_id = node(work, tmp_path / "node"), uuid4()
        async with originals.open(video_id, work.uri_of(video_id)) as source:
            plan = await make_plan(source.path, SMALL, need=source.need)
    assert plan.source_bytes > 20 * GIB
    assert plan.total_frames == 90_000
    share = server.sent_bytes / plan.source_bytes
    print(f"{share:.5f} of {plan.source_bytes} bytes, {server.requests} requests")
    assert share < 0.01
