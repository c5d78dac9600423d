"""Every family of generated sources, and how many of each are in a hundred."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from tests.generated import clocks, tracks, truncated_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.generated.case import Case

    Family = Callable[[random.Random], Case]

FAMILIES: Final[dict[Family, int]] = {
    truncated_files.cut: 20,
    truncated_files.cut_of_other_codecs: 6,
    truncated_files.uncut: 6,
    truncated_files.hole: 6,
    truncated_files.spoilt: 8,
    tracks.with_side_tracks: 20,
    tracks.beside_unopened: 6,
    tracks.still_beside_film: 4,
    tracks.silent_default: 2,
    tracks.programmes: 2,
    clocks.joined: 14,
    clocks.pause: 4,
    clocks.wrong_times: 8,
    clocks.wrong_uneven_times: 4,
    clocks.uneven: 8,
    clocks.last_picture: 8,
}


def generate(count: int, seed: int) -> Iterator[Case]:
    """Yield `count` cases, the same for the same seed."""
    chance = random.Random(seed)
    families, weights = list(FAMILIES), list(FAMILIES.values())
    for family in chance.choices(families, weights, k=count):
        yield family(random.Random(chance.randrange(1 << 62)))


def one_of_each(seed: int) -> Iterator[Case]:
    """Yield a case of each family."""
    for number, family in enumerate(FAMILIES):
        yield family(random.Random(seed + number))
