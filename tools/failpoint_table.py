"""Generate docs/failpoints.md from the registered failpoints: `python -m tools.failpoint_table`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from shared.failpoints import FAILPOINTS

if TYPE_CHECKING:
    from shared.failpoints import Failpoint

PAGE: Final = Path(__file__).parents[1] / "docs" / "failpoints.md"
HEAD: Final = """\
# Failpoints

<!-- Generated from shared/failpoints.py by `make schemas`. -->

A failpoint is a named place between two durable effects of a service where a test can stop the process.
Nothing happens there unless `CRASH_POINTS_DIR` is set. Then a file `<point>.armed` in that directory makes
the next process that reaches the point rename it to `<point>.<pid>.parked` and stop itself. Kill the process,
or continue it with SIGCONT after another has taken over its work.
[debugging.md](debugging.md#stop-a-service-at-a-failpoint) shows how.

*Redelivery*: the broker delivers the unacknowledged message to another worker, or to the same one after its
restart. *Superseded*: the handler finds the work done and acknowledges the message.

| point | durable when the process dies | what recovers |
|---|---|---|
"""


def page() -> str:
    """Return the text of the page."""
    return HEAD + "".join(map(_row, FAILPOINTS))


def _row(entry: Failpoint) -> str:
    names = ", ".join(f"`{pattern}`" for pattern in entry.patterns)
    return f"| {names} | {entry.durable} | {entry.recovery} |\n"


if __name__ == "__main__":
    PAGE.write_text(page())
