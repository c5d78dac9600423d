"""The quality part of `make bench-encode`: every content in every rendition."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.bench import commands, curves
from tests.bench.machine import describe_machine, describe_versions
from tests.bench.pictures import CLIPS, CONTENTS
from tests.bench.sources import FOLDER
from tests.ffmpegs.builds import fetch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

SECONDS: Final = 3.0  # of each content: enough to rank settings


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to measure; `contents` None: all, clips where `media` has them; `is_added`: to earlier results."""

    contents: str | None
    renditions: Sequence[str]
    media: Path
    is_added: bool = False

    def names(self) -> list[str]:
        """Return the contents by name."""
        if self.contents:
            return self.contents.split(",")
        return [*CONTENTS, *(name for name, clip in CLIPS.items() if (self.media / clip).is_file())]


def measure_quality(wanted: Wanted, folder: Path, console: Console) -> Path:
    """Measure, and write `quality.json` after each content and rendition; returns its path."""
    if not curves.JUDGE.is_fetched():
        fetch(curves.JUDGE)
    target = folder / "quality.json"
    rows = json.loads(target.read_text())["rows"] if wanted.is_added and target.exists() else []
    head = {"seconds": SECONDS, "machine": describe_machine(), "versions": describe_versions()}
    drawn = FOLDER / f"quality-{SECONDS:g}s"
    drawn.mkdir(parents=True, exist_ok=True)
    for rung in commands.LADDER:
        for name in wanted.names() if rung.name in wanted.renditions else ():
            content = (
                None if _has(rows, name, rung.name) else curves.draw(name, rung, SECONDS, drawn, wanted.media)
            )
            if content is not None:
                rows.append(curves.measure_content(content))
                console.print(curves.summary(rows)[-1])
                target.write_text(json.dumps({**head, "rows": rows}, indent=1) + "\n")
    console.print("\n".join(curves.summary(rows)))
    return target


def _has(rows: Sequence[dict[str, Any]], content: str, rendition: str) -> bool:
    return any((row["content"], row["rendition"]) == (content, rendition) for row in rows)
