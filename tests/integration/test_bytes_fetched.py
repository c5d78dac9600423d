"""How much of an original ten nodes fetch that share its sixty chunks."""

from __future__ import annotations

import subprocess
from collections import defaultdict
from dataclasses import dataclass

import pytest

from services.transcoder.plan.ladder import Preset
from services.transcoder.plan.make_plan import make_plan
from services.transcoder.sources.node_cache import NodeCache
from services.transcoder.spans import merged
from shared.workspace.disk_budget import DiskBudget

SMALL = (Preset("96p", 96, 300_000, 64_000),)
NODES, LOOPS = 10, 149  # of a clip of 24 s: an hour
PICTURE = "testsrc2=size=320x180:rate=25:duration=24"


@dataclass
class Server:
    """Serves a file's parts, and counts their bytes and the requests for them."""

    size_bytes: int
    sent_bytes: int = 0
    requests: int = 0

    async def read(self, _start, length):
        self.requests += 1
        while length:
            block = bytes(min(length, 1 << 20))
            self.sent_bytes += len(block)
            length -= len(block)
            yield block


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


@pytest.mark.parametrize(("suffix", "limit"), [("mp4", 1.3), ("mov", 1.3), ("mkv", 1.3), ("ts", 1.5)])
async def test_sixty_chunks_on_ten_nodes_fetch_little_more_than_the_original(suffix, limit, clip, tmp_path):
    film = looped(clip, tmp_path / f"film.{suffix}")
    plan = await make_plan(film, SMALL)
    assert len(plan.chunks) >= 60
    server, chunks = Server(film.stat().st_size), defaultdict(list)
    for chunk in plan.chunks:
        chunks[chunk.index % NODES].append(chunk)
    for node, own in chunks.items():
        cache = NodeCache(tmp_path / f"node{node}", DiskBudget(tmp_path, 0), max_bytes=10**12)
        for chunk in own:
            async with cache.open("film", server) as source:
                await source.need(merged([*plan.head, *chunk.reads.spans]))
    ratio = server.sent_bytes / server.size_bytes
    print(f"{suffix}: {ratio:.3f} of {server.size_bytes} bytes, {server.requests} requests")
    assert 1 <= ratio <= limit
