"""Hostile files are refused with a named reason, and what they name is neither opened nor requested."""

from __future__ import annotations

import asyncio
import csv
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.transcoder.encode.chunk import encode_chunk
from services.transcoder.encode.select_encoder import Encoder
from services.transcoder.plan.ladder import Preset
from services.transcoder.plan.make_plan import make_plan
from shared.errors import SourceError
from tests.media import Clip, make_clip

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SMALL = (Preset("96p", 96, 300_000, 128_000),)
MEDIA = Path(__file__).parents[3] / "shared" / "media"
HANGS_SECONDS = 60  # no measure of speed: whatever takes this long has hung
PORT, CANARY = "@PORT@", "@CANARY@"

HEAD = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n"

SCRIPTS = {
    "playlist over http": f"{HEAD}#EXTINF:10,\nhttp://127.0.0.1:{PORT}/a.ts\n#EXT-X-ENDLIST\n",
    "playlist of a file": f"{HEAD}#EXTINF:10,\nfile://{CANARY}\n#EXT-X-ENDLIST\n",
    "playlist of a concat": f"{HEAD}#EXTINF:10,\nconcat:http://127.0.0.1:{PORT}/|{CANARY}\n#EXT-X-ENDLIST\n",
    "playlist of a subfile": f"{HEAD}#EXTINF:10,\nsubfile,,start,0,end,64,,:{CANARY}\n#EXT-X-ENDLIST\n",
    "playlist of a key": (
        f'{HEAD}#EXT-X-KEY:METHOD=AES-128,URI="{CANARY}"\n#EXTINF:10,\ncrypto+file:{CANARY}\n#EXT-X-ENDLIST\n'
    ),
    "master playlist": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nhttp://127.0.0.1:{PORT}/b.m3u8\n",
    "concat script": f"ffconcat version 1.0\nfile {CANARY}\nfile http://127.0.0.1:{PORT}/c.mp4\n",
    "dash manifest": (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
        f"<BaseURL>http://127.0.0.1:{PORT}/d.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>"
    ),
    "session description": f"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video {PORT} RTP/AVP 96\n",
    "drawing": (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:x="http://www.w3.org/1999/xlink">'
        f'<image x:href="http://127.0.0.1:{PORT}/e.png"/></svg>'
    ),
    "smil": f'<smil><body><video src="http://127.0.0.1:{PORT}/f.mp4"/></body></smil>',
    "subtitles": f"WEBVTT\n\n00:00.000 --> 00:10.000\nfile://{CANARY}\n",
    "filter script": f"movie={CANARY}[out0]",
    "shell script": f"#!/bin/sh\ncat {CANARY}\n",
    "redirector": f"[Reference]\nRef1=http://127.0.0.1:{PORT}/g.asf\n",
}
NAMES = (
    "a.mp4",
    "a.mkv",
    "a.ts",
    "$(touch pwned).mov",
    "-i;%03d `id` 'x\".avi",
    "a\nb|c:d,e.webm",
    "\u202e4pm.flv",
)


class Trap:
    """A loopback listener that counts connections, and a file that must not be read."""

    def __init__(self, folder: Path) -> None:
        self.visits, self.port = 0, 0
        self.canary = folder / "canary.txt"
        self.canary.write_text("the canary sings of Valparaíso")

    def fill(self, script: str) -> str:
        return script.replace(PORT, str(self.port)).replace(CANARY, str(self.canary))

    def visit(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        writer.close()


@pytest.fixture
async def trap(tmp_path: Path) -> AsyncIterator[Trap]:
    trap = Trap(tmp_path)
    server = await asyncio.start_server(trap.visit, "127.0.0.1", 0)
    trap.port = server.sockets[0].getsockname()[1]
    async with server:
        yield trap


def ffmpeg(*arguments: object) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True)


def make(picture: str, *arguments: object) -> None:
    ffmpeg("-f", "lavfi", "-i", picture, *arguments)


async def refusal(path: Path) -> SourceError:
    """Return why the file is refused."""
    async with asyncio.timeout(HANGS_SECONDS):
        with pytest.raises(SourceError) as refused:
            await make_plan(path, SMALL)
    return refused.value


@pytest.mark.parametrize("name", NAMES)
async def test_a_script_is_refused_and_reaches_nothing_when_it_is_named_like_a_video(
    trap: Trap, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    for script in SCRIPTS.values():
        (folder / name).write_text(trap.fill(script))
        refused = await refusal(folder / name)
        assert "Valpara" not in str(refused)
    assert trap.visits == 0
    assert [path.name for path in folder.iterdir()] == [name]


async def test_the_trap_is_sprung_when_ffmpeg_runs_without_our_guards(trap: Trap, tmp_path: Path) -> None:
    script = tmp_path / "a.m3u8"
    script.write_text(trap.fill(SCRIPTS["playlist over http"]))
    command = ["ffprobe", "-v", "error", "-protocol_whitelist", "file,http,tcp,crypto,data", str(script)]
    await (await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)).wait()
    assert trap.visits > 0


async def test_a_picture_is_refused_when_it_claims_to_be_huge(tmp_path: Path) -> None:
    bomb, side = tmp_path / "bomb.gif", 65535
    screen = struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(6)
    picture = b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x4c\x01\x00;"
    bomb.write_bytes(b"GIF89a" + screen + picture)
    assert (await refusal(bomb)).reason in {"limits_exceeded", "corrupt_source"}


async def test_a_video_is_refused_when_its_pictures_are_larger_than_the_file_says(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mkv"
    make("color=s=64x64:d=1:r=5", "-c:v", "mjpeg", clip)
    small, huge = (
        b"\x00\x40\x00\x40\x03",
        b"\xff\xdc\xff\xdc\x03",
    )  # frame header: height, width, components
    data = clip.read_bytes()
    assert small in data
    clip.write_bytes(data.replace(small, huge))
    assert (await refusal(clip)).reason in {"limits_exceeded", "corrupt_source"}


async def test_a_file_is_refused_when_it_has_too_many_tracks(tmp_path: Path) -> None:
    one, many = tmp_path / "one.mkv", tmp_path / "many.mkv"
    make("color=s=16x16:d=1:r=1", "-c:v", "mpeg4", one)
    ffmpeg("-i", one, *["-map", "0:v"] * 126, "-c", "copy", many)  # what the muxer allows
    assert (await refusal(many)).reason == "limits_exceeded"


async def test_a_file_that_claims_to_last_for_years_costs_only_the_work_of_its_content(
    tmp_path: Path,
) -> None:
    clip = tmp_path / "years.mkv"
    make(
        "color=s=64x64:d=2:r=1",
        "-vf",
        "setpts=PTS*90000000",
        "-fps_mode",
        "passthrough",
        "-c:v",
        "mjpeg",
        clip,
    )
    plan = await make_plan(clip, SMALL)
    assert plan.duration_seconds < 120
    assert [warning.code for warning in plan.warnings] == ["clock_jump_closed"]


async def test_a_video_converts_when_its_name_is_made_of_shell_and_path_characters(tmp_path: Path) -> None:
    made = make_clip(tmp_path / "plain.mp4", Clip(frames=25))
    hostile = tmp_path / "-i file:$(touch pwned);|%03d `id`:'\".mp4"
    made.rename(hostile)
    plan = await make_plan(hostile, SMALL)
    encoded = await encode_chunk(plan, 0, hostile, tmp_path / "out", Encoder("libx264"))
    assert encoded.segments
    assert not (tmp_path / "pwned").exists()


@pytest.mark.skipif(not MEDIA.is_dir(), reason="the collection of clips is not here")
async def test_the_hostile_clips_of_the_collection_are_refused_with_a_named_reason(
    tmp_path: Path, trap: Trap
) -> None:
    with (MEDIA / "MANIFEST.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    rejected = [row["file"] for row in rows if row["expected"] == "rejected"]
    assert rejected
    for name in rejected:
        copy = tmp_path / f"job-{name}.mp4"  # its name is no longer meaningful
        copy.write_bytes((MEDIA / name).read_bytes())
        assert (await refusal(copy)).reason, name
    assert trap.visits == 0
