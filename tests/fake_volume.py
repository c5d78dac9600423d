"""A work volume of a chosen size, filled by its actual files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Statistics:
    f_bavail: int
    f_blocks: int
    f_frsize: int = 1


@dataclass
class Volume:
    """Stands in for os.statvfs; `size_bytes` may be changed at any time."""

    root: Path
    size_bytes: int

    def __call__(self, _: Any) -> Statistics:
        used = sum(path.stat().st_size for path in self.root.rglob("*") if path.is_file())
        return Statistics(self.size_bytes - used, self.size_bytes)
