"""How ffprobe reads a source: the file itself, or the file with some bytes replaced."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.transcoder.ffmpeg.input import input_url
from services.transcoder.ffmpeg.sandbox import Access

if TYPE_CHECKING:
    from collections.abc import Mapping

PROTOCOLS: Final = "file,subfile,concatf"


@dataclass(frozen=True, slots=True)
class View:
    """A source for ffprobe: its URL, the files it needs, and additional protocols."""

    url: str
    reads: tuple[str, ...]
    protocols: str = "file"

    @property
    def access(self) -> Access:
        return Access(reads=self.reads)


def whole(path: str) -> View:
    """Return the view of a file as it is."""
    return View(input_url(path), (path,))


def with_replaced(path: str, replaced: Mapping[int, bytes], folder: str) -> View:
    """Return the view of a file with `replaced` bytes (by offset, apart from each other).

    Nothing is copied: files in `folder` contain the replaced bytes, and the order of all parts.
    """
    parts, place = [], 0
    for number, (offset, content) in enumerate(sorted(replaced.items())):
        patch = Path(folder, f"{number}.bytes")
        patch.write_bytes(content)
        parts += [_part(path, place, offset), input_url(str(patch))]
        place = offset + len(content)
    parts.append(_part(path, place, Path(path).stat().st_size))
    order = Path(folder, "parts.txt")
    quoted = (part.replace("'", r"'\''") for part in parts)
    order.write_text("".join(f"'{part}'\n" for part in quoted))
    return View(f"concatf:{order}", (path, folder), PROTOCOLS)


def _part(path: str, begin: int, end: int) -> str:
    return f"subfile,,start,{begin},end,{end},,:{input_url(path)}"
