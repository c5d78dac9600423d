"""README.md and docs/rabbitmq.md followed word for word on a laptop, in a clone of this repository."""

from __future__ import annotations

import os
import re
import shutil
import sys
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from devstack.install import install_packages
from tests.e2e.system import REPO, System
from tests.e2e.use_it import VIDEO_ID, expect_playable, lines, make_holiday, use_it, watch_until_ready
from tests.newcomer import Answer, Newcomer, block, clone, commands, with_curlrc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(600)  # the system is started and stopped as often as the page says

PLAYER = "services/streamer/player/node_modules"
EVENT = re.compile(r"```json\n(\{\"specversion.*?)```", re.DOTALL)
ARCHIVE = '[archive]\ndirectory = "{}"\n'


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    """Someone whose system is up, after the demo; it is down afterwards."""
    install_packages(lambda: [] if shutil.which("curl") else ["curl"])
    folder = tmp_path_factory.mktemp("newcomer")
    checkout = clone(folder)
    borrow_libraries(checkout)
    own = {name: os.environ[name] for name in ("HOME", "PATH")}
    newcomer = Newcomer(checkout, with_curlrc(own, folder))
    make_holiday(newcomer)
    (demo,) = commands("README.md", "demo")
    assert "success: uploaded, converted, stored, fetched and decoded completely" in newcomer.type(demo)
    up, _, _, down = commands("README.md", "laptop")
    try:
        newcomer.type(up)
        newcomer.type(lines().addresses)
        yield newcomer
    finally:
        newcomer.type(down)
    assert "nothing is running" in newcomer.type("make status")


def borrow_libraries(checkout: Path) -> None:
    """Give a clone the libraries of this checkout, which take minutes to install."""
    (checkout / ".venv").symlink_to(sys.prefix)
    os.utime(checkout / "requirements-dev.lock", (0, 0))  # older than the packages
    if (REPO / PLAYER).is_dir():
        (checkout / PLAYER).symlink_to(REPO / PLAYER)


@pytest.fixture
def system(newcomer: Newcomer) -> System:
    """What the newcomer runs, as a platform or an operator sees it."""
    return System(newcomer.checkout / ".stack")


def test_newcomer_uploads_follows_plays_and_deletes_a_video(newcomer):
    use_it(newcomer)


async def test_newcomer_submits_a_file_by_event(newcomer, system):
    (video_id,) = newcomer.type(block("docs/rabbitmq.md", "publish")).split()
    async with system.client() as client:
        ready = await client.ready(video_id)
    assert ready["userId"] == "alice"
    expect_playable(newcomer, ready)


async def test_newcomer_retries_a_video_whose_object_was_missing(newcomer, system):
    newcomer.type(lines().authorization)
    event = EVENT.search((REPO / "README.md").read_text())
    newcomer.placeholders[VIDEO_ID] = video_id = str(uuid4())
    async with system.events() as events, system.client() as client, system.s3() as s3:
        await events.publish(event[1].replace("6f1f64c0-…", video_id).encode())
        assert (await client.failed(video_id))["reason"] == "source_unavailable"
        await s3.create_bucket(Bucket="incoming")
        await s3.put_object(
            Bucket="incoming", Key="holiday.mov", Body=(newcomer.checkout / "holiday.mov").read_bytes()
        )
        retried = newcomer.curl(lines().retry)
        assert (retried.status, retried.json["status"]) == (202, "processing")
        watch_until_ready(newcomer)
        expect_playable(newcomer, newcomer.curl(lines().record).json)
        for ending in ("video.failed", "video.stored"):
            await events.of(video_id, ending, at_least=1)


def test_newcomer_gives_variables_to_the_services(newcomer, system, tmp_path):
    newcomer.type(lines().authorization)
    _, with_variables, list_targets, down = commands("README.md", "laptop")
    storages = tmp_path / "storages.toml"
    storages.write_text(ARCHIVE.format(tmp_path / "archive"))
    newcomer.type(f"STORAGES={storages} {with_variables}")
    assert system.runs("transcoder-2")
    newcomer.placeholders[VIDEO_ID] = newcomer.curl(lines().upload).json["id"]
    watch_until_ready(newcomer)
    assert newcomer.curl(lines().record).json["storageType"] == "local"
    assert newcomer.curl(lines().storage) == Answer(200, '{"storage":"archive"}')
    targets = newcomer.type(list_targets)
    assert all(f"{target} " in targets for target in ("make up", down, "make demo", "make test"))
