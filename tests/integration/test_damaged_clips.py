"""Clips with damage anywhere are converted, or refused in plain words and without another try.

The long run damages the clips in SHARED_CLIPS, DAMAGED_CLIPS of them (200 unless told otherwise), from
GENERATED_SEED on.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.transcoder.encode.chunk import encode_chunk
from services.transcoder.encode.select_encoder import Encoder
from services.transcoder.plan.ladder import Preset
from services.transcoder.plan.make_plan import make_plan
from shared.errors import PermanentError
from tests.generated.case import Material
from tests.generated.truncated_files import CONTAINERS, OTHER_CODECS, whole
from tests.plain_words import assert_plain

if TYPE_CHECKING:
    from collections.abc import Callable

    Damage = Callable[[random.Random, bytearray], bytearray]

CLIPS = Path(os.environ.get("SHARED_CLIPS", Path(__file__).parents[3] / "shared" / "media"))
COUNT = int(os.environ.get("DAMAGED_CLIPS", "200"))
SEED = int(os.environ.get("GENERATED_SEED", "1"))
PRESETS = (Preset("96p", 96, 300_000, 128_000),)
X264 = Encoder("libx264")
HEADER_BYTES = 4096


def flipped(chance: random.Random, data: bytearray) -> bytearray:
    """Change single bytes all over the file."""
    for _ in range(chance.choice((1, 10, 200))):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return data


def flipped_header(chance: random.Random, data: bytearray) -> bytearray:
    """Change bytes at the beginning, where sizes, codecs and tables are named."""
    for _ in range(chance.choice((1, 3, 20))):
        data[chance.randrange(min(len(data), HEADER_BYTES))] = chance.randrange(256)
    return data


def flipped_end(chance: random.Random, data: bytearray) -> bytearray:
    """Change bytes at the end, where indexes are."""
    for _ in range(chance.choice((1, 3, 20))):
        data[-chance.randrange(1, min(len(data), HEADER_BYTES) + 1)] = chance.randrange(256)
    return data


def emptied(chance: random.Random, data: bytearray) -> bytearray:
    """Zero a stretch."""
    first = chance.randrange(len(data))
    last = min(len(data), first + chance.randrange(1, len(data) // 2 + 2))
    data[first:last] = bytes(last - first)
    return data


def shortened(chance: random.Random, data: bytearray) -> bytearray:
    """Keep the beginning only, or the end only."""
    place = chance.randrange(1, len(data))
    return data[:place] if chance.random() < 0.7 else data[place:]


def repeated(chance: random.Random, data: bytearray) -> bytearray:
    """Duplicate a part of the file at another place."""
    first, place = chance.randrange(len(data)), chance.randrange(len(data))
    return data[:place] + data[first : first + chance.randrange(1, 50_000)] + data[place:]


DAMAGES: tuple[Damage, ...] = (flipped, flipped_header, flipped_end, emptied, shortened, repeated)


async def convert(source: Path, folder: Path) -> None:
    """Convert a clip, or check the words with which it is refused."""
    try:
        plan = await make_plan(source, PRESETS, segment_seconds=4, chunk_seconds=60)
        for chunk in plan.chunks[:3]:
            await encode_chunk(plan, chunk.index, source, folder / "out", X264, check="quick")
    except PermanentError as error:
        assert_plain(error)


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("material"))


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
async def test_damaged_clip_is_converted_or_refused_in_plain_words(damage, material, tmp_path):
    chance = random.Random(f"{SEED} {damage.__name__}")
    for container in chance.sample([*CONTAINERS, *OTHER_CODECS], 2):
        given = whole(material, container)
        source = tmp_path / f"damaged{given.suffix}"
        source.write_bytes(damage(chance, bytearray(given.read_bytes())))
        await convert(source, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(2 * 3600)
@pytest.mark.skipif(not CLIPS.is_dir(), reason="the clips are not here")
async def test_damaged_real_clips_are_converted_or_refused_in_plain_words(tmp_path):
    clips = sorted(path for path in CLIPS.iterdir() if 1000 < path.stat().st_size < 2_000_000)
    wrong = []
    for number in range(COUNT):
        chance = random.Random(f"{SEED} {number}")
        given, damage = chance.choice(clips), chance.choice(DAMAGES)
        source = tmp_path / f"{number}{given.suffix}"
        source.write_bytes(damage(chance, bytearray(given.read_bytes())))
        try:
            await convert(source, tmp_path)
        except Exception as error:  # noqa: BLE001 - one that fails is a finding like any other: the run continues
            wrong.append(f"{number}: {given.name} {damage.__name__}: {error!r}")
        print(f"{number:4} {given.name} {damage.__name__} {wrong[-1:] or ''}", flush=True)
        source.unlink()
    assert wrong == []
