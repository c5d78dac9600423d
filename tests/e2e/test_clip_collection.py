"""Files of every kind through the whole system, with a table of results."""

from __future__ import annotations

import asyncio
import csv
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.e2e.clip_collection import ANIMALS, RUINED, make, ruin
from tests.e2e.system import REPO

if TYPE_CHECKING:
    from pathlib import Path

MEDIA = REPO.parent / "shared" / "media"
CHECKER = REPO.parent / "shared" / "hls_check.py"
AT_ONCE = 3
PERMANENT = {
    "no_video_stream",
    "not_a_video",
    "corrupt_source",
    "encrypted_source",
    "unsupported_codec",
    "limits_exceeded",
}


@dataclass(frozen=True)
class Row:
    """The expected and actual result of a file."""

    name: str
    expected: str
    got: str
    reason: str
    problems: str
    seconds: float
    shape: tuple[int, int] | None = None

    @property
    def is_unexpected(self) -> bool:
        right = self.expected in ("either", self.got) and (self.got == "converts" or self.reason in PERMANENT)
        return not right or "FAIL" in self.problems

    def __str__(self) -> str:
        mark = "UNEXPECTED" if self.is_unexpected else ""
        return (
            f"{self.name:60} {self.expected:9} {self.got:9} {self.seconds:6.1f} s  "
            f"{self.reason} {self.problems} {mark}".rstrip()
        )


async def convert(client, path: Path, expected: str) -> Row:
    """Upload one file, wait for its end, and check the output."""
    began = time.monotonic()
    if path.stat().st_size == 0:
        refused = await client.upload(path, 400)
        return Row(
            path.name, expected, "rejected", "corrupt_source", refused["reason"], time.monotonic() - began
        )
    record = await client.upload(path)
    async with asyncio.timeout(240):
        while (record := await client.record(record["id"]))["status"] == "processing":
            await asyncio.sleep(0.3)
    seconds = time.monotonic() - began
    if record["status"] == "failed":
        return Row(path.name, expected, "rejected", record["error"]["reason"], "", seconds)
    warnings = ", ".join(warning["message"] for warning in record.get("warnings") or [])
    top = record["renditions"][0]
    problems = await judge(record["playlistUrl"])
    return Row(path.name, expected, "converts", warnings, problems, seconds, (top["width"], top["height"]))


async def judge(url: str) -> str:
    """Return the authoring rules that the checker finds violated, each with the first reason."""
    if not CHECKER.is_file():
        return ""
    checker = await asyncio.create_subprocess_exec(
        sys.executable, str(CHECKER), url, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    text = (await checker.communicate())[0].decode()
    lines = text.splitlines()
    found = [
        f"{line[:8]}: {lines[number + 1].strip()[:90]}"
        for number, line in enumerate(lines)
        if line.startswith(("FAIL", "WARN"))
    ]
    return "; ".join(found) if checker.returncode in (0, 1) else f"FAIL: {text[-200:]}"


async def run_zoo(system, files: list[tuple[Path, str]]) -> list[Row]:
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(client, path: Path, expected: str) -> Row:
        async with slots:
            row = await convert(client, path, expected)
            print(row, flush=True)
            return row

    async with system.client() as client:
        return await asyncio.gather(*(one(client, *file) for file in files))


async def test_clips_of_many_kinds_end_as_they_should(s3_mode, tmp_path):
    made = [make(animal, tmp_path) for animal in ANIMALS]
    made += ruin(made[0], tmp_path)
    zoo = dict(zip(made, (*ANIMALS, *RUINED), strict=True))
    results = await run_zoo(s3_mode, [(path, animal.expected) for path, animal in zoo.items()])
    assert [str(row) for row in results if row.is_unexpected] == []
    for row, animal in zip(results, zoo.values(), strict=True):
        assert row.reason == animal.reason, row
        assert animal.shape in (None, row.shape), row


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.skipif(not MEDIA.is_dir(), reason="the collection of clips is not here")
async def test_every_clip_of_the_collection_ends_as_it_should(s3_mode):
    with (MEDIA / "MANIFEST.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    results = await run_zoo(s3_mode, [(MEDIA / row["file"], row["expected"]) for row in rows])
    print("\n".join(map(str, sorted(results, key=lambda row: row.name))))
    assert [str(row) for row in results if row.is_unexpected] == []
