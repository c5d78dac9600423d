"""Draw the figures of `stream.json`; run by a Python that has matplotlib."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Final

COLOURS: Final = {
    "before": "#d0d7de",
    "streamer": "#1f6feb",
    "edge + streamer": "#2da44e",
    "bare nginx": "#57606a",
    "bare nginx, log and headers of the edge": "#8c959f",
}
CONNECTIONS: Final = 64
FIGURE: Final = "cpuSecondsPer1000"


def bars(storage: dict[str, Any], kind: str) -> list[tuple[str, float]]:
    """Return contender and CPU milliseconds a request of one panel."""
    rows = [row for row in storage["load"] if row["kind"] == kind and row["connections"] == CONNECTIONS]
    return [(row["contender"], row[FIGURE]) for row in rows if row[FIGURE] is not None]


def draw(report: dict[str, Any], target: Path) -> None:
    """Write the chart: one row per storage, one panel per type of request."""
    matplotlib = import_module("matplotlib")
    matplotlib.use("Agg")
    plots = import_module("matplotlib.pyplot")
    storages = report["storages"]
    kinds = list(dict.fromkeys(row["kind"] for row in storages[0]["load"]))
    size = (2.5 + 2.2 * len(kinds), 2.2 * len(storages))
    figure, grid = plots.subplots(len(storages), len(kinds), figsize=size, squeeze=False)
    for row, storage in zip(grid, storages, strict=True):
        for axes, kind in zip(row, kinds, strict=True):
            heights = bars(storage, kind)
            names = [name for name, _ in heights]
            drawn = axes.barh(names, [ms for _, ms in heights], color=[COLOURS[name] for name in names])
            axes.bar_label(drawn, fmt="%.3g", padding=3, fontsize=8)
            axes.invert_yaxis()
            axes.margins(x=0.25)
            if kind != kinds[0]:
                axes.set_yticklabels([])
            axes.set_title(f"{storage['storage']}: {kind}", fontsize=9)
            axes.tick_params(labelsize=8)
            axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"CPU milliseconds of the server for one request, {CONNECTIONS} connections")
    figure.tight_layout()
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
