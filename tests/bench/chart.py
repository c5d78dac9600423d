"""Draw the figures of `encode.json`; run by the benchmark's own Python, which has matplotlib."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final

PANELS: Final = (
    ("wall_seconds", 1.0, "wall time, s"),
    ("cpu_seconds", 1.0, "CPU time, s"),
    ("peak_memory_bytes", 2.0**-20, "peak memory, MiB"),
    ("first_playable_seconds", 1.0, "first segments, s"),
)
OURS_COLOUR: Final = "#1f6feb"
OTHER_COLOUR: Final = "#9aa4b2"


def bars(run: dict[str, Any], figure: str, scale: float) -> list[tuple[str, float]]:
    """Return title and height of each bar of one panel; contenders without the figure are left out."""
    measured = [(each["title"], each["usage"]) for each in run["contenders"] if each.get("usage")]
    return [(title, usage[figure] * scale) for title, usage in measured if usage[figure] is not None]


def draw(report: dict[str, Any], target: Path) -> None:
    """Write the chart: one row per source, one panel per figure."""
    matplotlib = import_module("matplotlib")
    matplotlib.use("Agg")
    plots = import_module("matplotlib.pyplot")
    runs = report["sources"]
    size = (4.4 * len(PANELS), 2.9 * len(runs))
    figure, grid = plots.subplots(len(runs), len(PANELS), figsize=size, squeeze=False)
    for row, run in zip(grid, runs, strict=True):
        for axes, (name, scale, title) in zip(row, PANELS, strict=True):
            _panel(axes, bars(run, name, scale), f"{run['kind']}, {run['seconds']:g} s: {title}")
    machine = report["machine"]
    figure.suptitle(f"1080p to four renditions on {machine['cores']} cores ({machine['processor']})")
    figure.tight_layout()
    figure.savefig(target, dpi=110)


def _panel(axes: Any, heights: list[tuple[str, float]], title: str) -> None:
    titles = [name for name, _ in heights]
    colours = [OURS_COLOUR if name == "this pipeline" else OTHER_COLOUR for name in titles]
    drawn = axes.barh(titles, [height for _, height in heights], color=colours)
    axes.bar_label(drawn, fmt="%.1f", padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
