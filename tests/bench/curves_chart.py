"""Draw the curves of `quality.json`; run by the benchmark's own Python, which has matplotlib."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final

COLUMNS: Final = 4
COLOURS: Final = {"ours": "#1f6feb", "plain": "#9aa4b2"}


def draw(report: dict[str, Any], target: Path) -> None:
    """Write the chart: one panel per content and rendition, VMAF over the rate."""
    matplotlib = import_module("matplotlib")
    matplotlib.use("Agg")
    plots, ticker = import_module("matplotlib.pyplot"), import_module("matplotlib.ticker")
    rows = report["rows"]
    count = -(-len(rows) // COLUMNS)
    figure, grid = plots.subplots(count, COLUMNS, figsize=(4 * COLUMNS, 3 * count), squeeze=False)
    for axes in grid.flat[len(rows) :]:
        axes.set_visible(False)
    for axes, row in zip(grid.flat, rows, strict=False):
        for name, colour in COLOURS.items():
            points = sorted((point["bps"] / 1000, point["vmaf"]) for point in row[name])
            axes.plot(*zip(*points, strict=True), marker="o", color=colour, label=name)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
        axes.set_title(f"{row['content']}, {row['rendition']}", fontsize=9)
        axes.tick_params(labelsize=8)
    grid[0][0].legend(fontsize=8)
    figure.supxlabel("kbit/s")
    figure.supylabel("VMAF")
    figure.tight_layout()
    figure.savefig(target, dpi=100)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
