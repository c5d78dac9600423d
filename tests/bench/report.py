"""The tables at the end of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

MEBIBYTE: Final = 2**20
DISTURBED_SHARE: Final = 0.1
NOTHING: Final = "-"
VERDICTS: Final = {True: "met", False: "missed", None: NOTHING}


def show_source(section: dict[str, Any], cores: int, console: Console) -> None:
    """Print what each contender took on one source, how good its renditions are, and the ratios."""
    title = f"{section['kind']} source, {section['seconds']:g} s"
    columns = ("", "wall s", "CPU s", "peak MiB", "first segments s", "others' CPU s")
    _show(console, title, columns, [usage_row(each) for each in section["contenders"]])
    judged = [each for each in section["contenders"] if each["renditions"]]
    if judged:
        names = [each["rendition"] for each in judged[0]["renditions"]]
        rows = [[each["title"], *map(quality_cell, each["renditions"])] for each in judged]
        _show(console, "kbit/s, PSNR dB, SSIM", ("", *names), rows)
    for each in section["contenders"]:
        if each["error"]:
            console.print(escape(f"{each['title']} failed: {each['error']}"), style="red")
    if held_up := disturbed(section["contenders"], cores):
        console.print(
            escape(f"The machine was also busy with other work during: {', '.join(held_up)}"), style="yellow"
        )
    _show(console, "ratios", ("", "value", "aim", ""), [ratio_row(each) for each in section["ratios"]])


def disturbed(contenders: list[dict[str, Any]], cores: int) -> list[str]:
    """Return the titles of contenders with unreliable wall times, because other processes were running."""
    measured = [(each["title"], each["usage"]) for each in contenders if each["usage"]]
    return [
        title
        for title, usage in measured
        if usage["other_cpu_seconds"] > DISTURBED_SHARE * usage["wall_seconds"] * cores
    ]


def usage_row(contender: dict[str, Any]) -> list[str]:
    """Return a contender's row: its figures, and whether it failed."""
    usage = contender["usage"]
    title = f"{contender['title']} (failed)" if contender["error"] else contender["title"]
    if not usage:
        return [title, *[NOTHING] * 5]
    return [
        title,
        f"{usage['wall_seconds']:.1f}",
        f"{usage['cpu_seconds']:.1f}",
        f"{usage['peak_memory_bytes'] / MEBIBYTE:.0f}",
        _number(usage["first_playable_seconds"], ".1f"),
        f"{usage['other_cpu_seconds']:.1f}",
    ]


def quality_cell(quality: dict[str, Any]) -> str:
    """Return a rendition's cell."""
    return f"{quality['video_bps'] / 1000:.0f}, {quality['psnr_db']:.2f}, {quality['ssim']:.4f}"


def ratio_row(ratio: dict[str, Any]) -> list[str]:
    """Return a ratio's row."""
    return [ratio["name"], _number(ratio["value"], ".3f"), ratio["aim"], VERDICTS[ratio["is_met"]]]


def _number(value: float | None, form: str) -> str:
    return NOTHING if value is None else format(value, form)


def _show(console: Console, title: str, columns: tuple[str, ...], rows: list[list[str]]) -> None:
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)
