"""Generate docs/reasons.md, every `reason` that an answer, a record or an event can carry.

`python -m tools.reason_table` reads the tree of errors, and the literal reasons of the code by its syntax.
"""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import re
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

import services
import shared
from shared.errors import PipelineError
from shared.http.problems import status_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "reasons.md"
EDGE: Final = ROOT / "deploy" / "edge" / "server.conf"
CALLS: Final = ("HttpProblem", "Refused", "problem")
HEAD: Final = """\
# Reasons

<!-- Generated from the code by `make schemas`. -->

Every `reason` that a problem document (RFC 9457), the `error` of a record or the event `video.failed` can
carry. Reasons are stable: match on them, not on their texts. *Status* is that of an HTTP answer;
reasons of records and events have the one that a request would get. What an operator does about a failed
video is in [operations.md](operations.md).

| reason | status | meaning |
|---|---|---|
"""


@dataclass(frozen=True, order=True)
class Reason:
    """One reason; `meaning` is a sentence of the code."""

    name: str
    status: int
    meaning: str


def page() -> str:
    """Return the text of the page."""
    best: dict[str, Reason] = {}
    found = [*_of_errors(), *_of_calls(), *_of_statuses(), *_of_edge()]
    for reason in sorted(found, key=lambda each: bool(each.meaning)):
        best[reason.name] = reason
    return HEAD + "".join(
        f"| `{each.name}` | {each.status} | {each.meaning} |\n" for each in sorted(best.values())
    )


def _of_errors() -> Iterator[Reason]:
    for package in (shared, services):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    for kind in _descendants(PipelineError):
        if "reason" in vars(kind):
            words = (kind.__doc__ or "").strip().splitlines() or [_words(kind.__name__)]
            yield Reason(kind.reason, status_of(kind.__new__(kind)), words[0].rstrip("."))


def _descendants(kind: type[PipelineError]) -> Iterator[type[PipelineError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _descendants(child)


def _words(name: str) -> str:
    return (
        "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip().capitalize()
    )


def _of_calls() -> Iterator[Reason]:
    """Yield what the code answers with a status and a reason written out."""
    for directory in ("services", "shared"):
        for path in sorted((ROOT / directory).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                yield from _of_node(node)


def _of_node(node: ast.AST) -> Iterator[Reason]:
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
        yield from _of_values(node.value.elts)
    elif isinstance(node, ast.Tuple):
        yield from _of_values(node.elts)
    elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in CALLS:
        yield from _of_values(node.args)


def _of_values(values: list[ast.expr]) -> Iterator[Reason]:
    match values:
        case [ast.Constant(int(status)), ast.Constant(str(name)), *rest] if 400 <= status < 600:
            yield Reason(name, status, _text(rest[0]) if rest else "")


def _text(node: ast.expr) -> str:
    """Return a message template, with ellipses for its placeholders."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    if isinstance(node, ast.Constant):
        return str(node.value)
    return "…" if isinstance(node, ast.FormattedValue) else ""


def _of_statuses() -> Iterator[Reason]:
    """Yield the framework's answers: unknown paths, methods, bodies above the limit."""
    for status in (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
        name = status.phrase.lower().replace(" ", "_")
        yield Reason(name, status, status.description)


def _of_edge() -> Iterator[Reason]:
    """Yield the answers that nginx gives in front of the streamer."""
    for body in re.findall(r"'(\{.*\})\\n'", EDGE.read_text()):
        problem = json.loads(body)
        yield Reason(problem["reason"], problem["status"], problem["detail"])


if __name__ == "__main__":
    PAGE.write_text(page())
