"""Output for the user: lines, tables, and progress bars, which are lines without a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

LINE_EVERY_SECONDS = 5.0
Advance = Callable[[float, str], None]

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)


def say(text: str) -> None:
    """Print one line."""
    console.print(escape(text))


def complain(text: str) -> None:
    """Print an error to standard error."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]{escape(text)}[/red]")


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


@contextmanager
def progress(what: str) -> Iterator[Advance]:
    """Show the progress of `what`; yields a function that takes a fraction from 0 to 1 and a note."""
    with _bar(what) if console.is_terminal else _lines(what) as advance:
        yield advance


@contextmanager
def _bar(what: str) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(what, total=1.0, note="")
        yield lambda fraction, note: bars.update(task, completed=fraction, note=escape(note))


@contextmanager
def _lines(what: str) -> Iterator[Advance]:
    started = last = time.monotonic()

    def advance(fraction: float, note: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LINE_EVERY_SECONDS:
            last = now
            say(f"{what}: {fraction:.0%} after {now - started:.0f} s {note}".rstrip())

    yield advance
    say(f"{what}: done in {time.monotonic() - started:.1f} s")
