"""The block "Use it" of README.md, typed word for word wherever the system runs."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.e2e.system import make_clip
from tests.newcomer import Answer, block, commands

if TYPE_CHECKING:
    from tests.newcomer import Newcomer

VIDEO_ID: Final = "0b8f…"  # how the page writes the id of a video
SECONDS, FRAMES = 4, 100


class Lines(NamedTuple):
    """The commands of the block by what they do, in its order."""

    addresses: str
    authorization: str
    upload: str
    record: str
    events: str
    source: str
    list_ready: str
    retry: str
    retry_all: str
    delete: str
    add_key: str
    presets: str
    preferences: str
    storage: str


def lines() -> Lines:
    """Return the commands of the block."""
    return Lines(*commands("README.md", "use"))


def make_holiday(newcomer: Newcomer) -> None:
    """Put the video that the pages mention where the newcomer types."""
    make_clip(newcomer.checkout / "holiday.mov", seconds=SECONDS, size="1280x720")


def use_it(newcomer: Newcomer) -> None:
    """Type everything but the first line, which has made the addresses known, and check what comes back."""
    newcomer.type(lines().authorization)
    uploaded = newcomer.curl(lines().upload)
    status, shown = documented_answer()
    assert (uploaded.status, uploaded.json | shown) == (status, uploaded.json)
    newcomer.placeholders[VIDEO_ID] = uploaded.json["id"]
    use_a_video(newcomer, lines())
    change_settings(newcomer, lines())
    read_the_documents(newcomer)


def documented_answer() -> tuple[int, dict[str, Any]]:
    """Return the status and the fields that the page shows as the answer to an upload, without the id."""
    found = re.search(r"^# (\d+) (\{.*), …\}$", block("README.md", "use"), re.MULTILINE)
    assert found
    fields = json.loads(found[2] + "}")
    assert fields.pop("id") == VIDEO_ID
    return int(found[1]), fields


def use_a_video(newcomer: Newcomer, page: Lines) -> None:
    """Follow a video until it is ready, play it, delete it."""
    assert newcomer.curl(page.record).json["title"] == "Holiday"
    watch_until_ready(newcomer)
    examined = newcomer.curl(page.source).json
    assert [track["kind"] for track in examined["tracks"]] == ["video", "audio"]
    assert all(decision["reason"] for decision in examined["decisions"])
    found = newcomer.curl(page.record).json
    assert [each["name"] for each in found["renditions"]] == ["720p", "480p"]
    assert found in newcomer.curl(page.list_ready).json["videos"]
    expect_playable(newcomer, found)
    refused = newcomer.curl(page.retry)
    assert (refused.status, refused.json["reason"]) == (409, "not_failed")
    assert newcomer.curl(page.retry_all) == Answer(202, '{"retried":0}')
    assert newcomer.curl(page.delete) == Answer(204, "")
    assert newcomer.curl(page.record).status == 404


def watch_until_ready(newcomer: Newcomer) -> None:
    """Follow the server-sent events until the server ends them."""
    answer = newcomer.curl(lines().events)
    names = re.findall(r"^event: (\w+)$", answer.body, re.MULTILINE)
    assert (answer.status, names[-1], set(names[:-1])) == (200, "ready", {"progress"})


def expect_playable(newcomer: Newcomer, record: dict[str, Any]) -> None:
    """Play a video from the address that the page gives."""
    (address,) = newcomer.type(f"echo $STREAMER_URL/api/stream/{record['id']}/master.m3u8").split()
    assert record["playlistUrl"] == address
    run = ["ffprobe", "-v", "error", "-count_frames", "-select_streams", "v:0", "-of", "json"]
    run += ["-show_entries", "stream=nb_read_frames", address]
    done = subprocess.run(run, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    assert json.loads(done.stdout)["streams"] == [{"nb_read_frames": str(FRAMES)}]


def change_settings(newcomer: Newcomer, page: Lines) -> None:
    """Make a key for a user, read the presets, choose the user's qualities and storage."""
    added = newcomer.curl(page.add_key)
    assert (added.status, added.json["scope"], added.json["userId"]) == (201, "user", "alice")
    as_alice = newcomer.curl(f'curl -H "Authorization: Bearer {added.json["key"]}" $INGEST_URL/api/videos')
    assert (as_alice.status, as_alice.json["videos"]) == (200, [])
    ladder = [preset["name"] for preset in newcomer.curl(page.presets).json]
    assert ladder == ["1080p", "720p", "480p", "360p"]
    assert newcomer.curl(page.preferences) == Answer(200, '{"qualities":["720p"]}')
    refused = newcomer.curl(page.storage)  # there is one only
    assert (refused.status, refused.json["reason"]) == (400, "unknown_storage")
    assert "valid names: default" in refused.json["detail"]


def read_the_documents(newcomer: Newcomer) -> None:
    """Open the documents that the page names below the block."""
    assert newcomer.curl("curl $INGEST_URL/docs").body.startswith("<!doctype html>")
    ingest = newcomer.curl("curl $INGEST_URL/openapi.json").json
    assert "/api/videos/upload" in ingest["paths"]
    streamer = newcomer.curl("curl $STREAMER_URL/api/stream/openapi.json").json
    assert "/api/stream/{video_id}/master.m3u8" in streamer["paths"]
