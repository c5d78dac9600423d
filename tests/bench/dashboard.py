"""Ask a running Prometheus what a dashboard would show, where there is no Grafana.

    python -m tests.bench.dashboard $PROMETHEUS_URL --minutes 10
    .stack/bench-venv/bin/python -m tests.bench.dashboard $PROMETHEUS_URL --draw overview overview.png

The first lists the series of every panel, the second draws a dashboard from its own JSON: time series and
single values, no other panels. It needs matplotlib, which the benchmarks' own Python has.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
import urllib.parse
import urllib.request
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

DASHBOARDS: Final = Path(__file__).parents[2] / "deploy" / "monitoring" / "dashboards"
POINTS: Final = 120
ROW_INCHES, WIDTH_INCHES = 0.42, 16.0
COLUMNS: Final = 24
UNITS: Final = {"s": " s", "Bps": "B/s", "bytes": "B", "reqps": "/s", "ops": "/s", "percentunit": " %"}
PREFIXES: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
SECONDS_LIMIT: Final = 30.0


def shown(value: float, unit: str) -> str:
    """Return a value with its unit, as short as on an axis."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s" and abs(value) >= 120:
        return f"{value / 3600:.3g} h" if abs(value) >= 7200 else f"{value / 60:.3g} min"
    prefix = ""
    if unit in ("Bps", "bytes", "short"):
        scale, prefix = next((pair for pair in PREFIXES if abs(value) >= pair[0]), (1.0, ""))
        value /= scale
    gap = " " if unit in ("Bps", "bytes") else ""
    return f"{value:.3g}{gap}{prefix}{UNITS.get(unit, '')}"


def legend(template: str, labels: dict[str, str]) -> str:
    """Return a legend with the labels of its series."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), template)


Series = list[tuple[str, list[tuple[datetime, float]]]]


class Prometheus:
    """Asks a Prometheus for the last minutes."""

    def __init__(self, url: str, minutes: float) -> None:
        self._url, self._end = url, time.time()
        self.seconds = minutes * 60
        self._step = max(5.0, self.seconds / POINTS)

    def lines(self, panel: dict[str, Any]) -> Series:
        """Return each series of a panel: its legend, and its points in time."""
        return [
            (legend(each["legendFormat"], labels), points)
            for each in panel["targets"]
            for labels, points in self._series(each["expr"])
        ]

    def _series(self, query: str) -> list[tuple[dict[str, str], list[tuple[datetime, float]]]]:
        wanted = {
            "query": query.replace("$__rate_interval", f"{max(60, int(4 * self._step))}s"),
            "start": f"{self._end - self.seconds}",
            "end": f"{self._end}",
            "step": f"{self._step}",
        }
        url = f"{self._url}/api/v1/query_range?{urllib.parse.urlencode(wanted)}"
        with urllib.request.urlopen(url, timeout=SECONDS_LIMIT) as answer:
            found = json.load(answer)["data"]["result"]
        return [(each["metric"], list(with_gaps(each["values"], self._step))) for each in found]


def with_gaps(samples: list[tuple[float, str]], step: float) -> Iterator[tuple[datetime, float]]:
    """Yield the points of a series, and NaN where samples are missing: no line is drawn there."""
    expected = samples[0][0]
    for seconds, value in samples:
        if seconds > expected + step / 2:
            yield datetime.fromtimestamp(expected, UTC), math.nan
        yield datetime.fromtimestamp(seconds, UTC), float(value)
        expected = seconds + step


def described(panel: dict[str, Any], lines: Series) -> list[str]:
    """Return a line for each series of a panel: from which value to which, and the last one."""
    unit = panel["fieldConfig"]["defaults"]["unit"]
    found = []
    for name, points in lines:
        values = [value for _, value in points if not math.isnan(value)] or [math.nan]
        least, most, last = (shown(value, unit) for value in (min(values), max(values), points[-1][1]))
        found.append(f"  {name or 'value'}: {least} to {most}, last {last}")
    return found or ["  no data"]


def draw(dashboard: dict[str, Any], prometheus: Prometheus, target: Path) -> list[str]:
    """Write the picture; return the titles of the panels that have no data."""
    matplotlib = import_module("matplotlib")
    matplotlib.use("Agg")
    plots = import_module("matplotlib.pyplot")
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    figure = plots.figure(figsize=(WIDTH_INCHES, rows * ROW_INCHES), layout="constrained")
    grid = figure.add_gridspec(rows, COLUMNS)
    empty = []
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        axes = figure.add_subplot(
            grid[place["y"] : place["y"] + place["h"], place["x"] : place["x"] + place["w"]]
        )
        axes.set_title(panel["title"], fontsize=9, loc="left")
        lines = prometheus.lines(panel)
        if not lines:
            empty.append(panel["title"])
        (_draw_value if panel["type"] == "stat" else _draw_lines)(axes, panel, lines)
    figure.suptitle(f"{dashboard['title']}, the last {prometheus.seconds / 60:g} minutes", fontsize=11)
    figure.savefig(target, dpi=75)
    return empty


def _draw_value(axes: Any, panel: dict[str, Any], lines: Series) -> None:
    axes.axis("off")
    unit = panel["fieldConfig"]["defaults"]["unit"]
    text = shown(lines[0][1][-1][1], unit) if lines else "no data"
    axes.text(0.5, 0.4, text, ha="center", va="center", fontsize=22, transform=axes.transAxes)


def _draw_lines(axes: Any, panel: dict[str, Any], lines: Series) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    for name, points in lines:
        axes.plot(*zip(*points, strict=True), label=name or None, linewidth=1.2)
    axes.set_ylim(bottom=defaults.get("min"), top=defaults.get("max"))
    axes.yaxis.set_major_formatter(lambda value, _: shown(value, defaults["unit"]))
    axes.xaxis.set_major_formatter(import_module("matplotlib.dates").DateFormatter("%H:%M"))
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if any(name for name, _ in lines):
        axes.legend(fontsize=6, loc="best", framealpha=0.6)


def _dashboard(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DASHBOARDS / f"{name}.json").read_text())
    return found


def main() -> int:
    """List every panel, or draw a dashboard and say which of its panels are empty."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.dashboard")
    parser.add_argument("prometheus")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--draw", nargs=2, metavar=("DASHBOARD", "PICTURE"))
    given = parser.parse_args()
    names = sorted(path.stem for path in DASHBOARDS.glob("*.json"))
    prometheus = Prometheus(given.prometheus, given.minutes)
    if not given.draw:
        for name in names:
            for panel in _dashboard(name)["panels"]:
                print(f"{name}: {panel['title']}", *described(panel, prometheus.lines(panel)), sep="\n")
        return 0
    name, target = given.draw
    if name not in names:
        parser.error(f"there is no dashboard {name}, only {', '.join(names)}")
    dashboard = _dashboard(name)
    empty = draw(dashboard, prometheus, Path(target))
    print(f"{target}: {len(dashboard['panels'])} panels, without data: {', '.join(empty) or 'none'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
