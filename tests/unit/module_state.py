"""Finds a module's global state, its reads at import, and its imports, from the syntax tree."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

READS = {
    "open",
    "fdopen",
    "read_text",
    "read_bytes",
    "glob",
    "rglob",
    "iterdir",
    "listdir",
    "scandir",
    "getenv",
}
MUTABLE = {"dict", "list", "set", "defaultdict", "OrderedDict", "deque", "bytearray", "WeakValueDictionary"}
MUTATORS = {"add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "remove"}
MUTATORS |= {"setdefault", "update"}


def reads_at_import(tree: ast.Module) -> Iterator[str]:
    """Yield what the import of a module reads from files or the environment."""
    for node in _run_at_import(tree):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(node, ast.Attribute) and node.attr == "environ":
            yield "os.environ"
        elif called is not None and _name(called) in READS:
            yield f"{_name(called)}()"


def _run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what runs when a module is imported: all but the bodies of functions."""
    yield node
    for field, value in ast.iter_fields(node):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and field == "body":
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _run_at_import(child)


def writes_to_modules(tree: ast.Module) -> Iterator[str]:
    """Yield the containers of modules that functions change, `global` names, and hooks at exit."""
    containers = {name for statement in tree.body for name in _containers(statement)}
    for node in (node for function in _functions(tree) for node in ast.walk(function)):
        if isinstance(node, ast.Global):
            yield from node.names
        changed = _changed(node)
        if changed is not None and (_name(changed) in containers or _name(changed).isupper()):
            yield _name(changed)
        if isinstance(node, ast.Attribute) and _name(node.value) == "atexit":
            yield "atexit"


def _containers(statement: ast.stmt) -> Iterator[str]:
    if not isinstance(statement, ast.Assign | ast.AnnAssign):
        return
    value = statement.value
    displays = ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp
    if isinstance(value, displays) or (isinstance(value, ast.Call) and _name(value.func) in MUTABLE):
        yield from map(_name, statement.targets if isinstance(statement, ast.Assign) else [statement.target])


def _functions(node: ast.AST) -> Iterator[ast.AST]:
    return (each for each in ast.walk(node) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))


def _changed(node: ast.AST) -> ast.expr | None:
    """Return what a statement or call changes in place."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
        return node.func.value
    if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        return node.value
    return node.target if isinstance(node, ast.AugAssign) else None


def memoised(tree: ast.Module) -> Iterator[str]:
    """Yield the functions whose results a module caches."""
    for function in _functions(tree):
        used = [each.func if isinstance(each, ast.Call) else each for each in function.decorator_list]
        if {"cache", "lru_cache"} & set(map(_name, used)):
            yield function.name


def reads_of_environment(tree: ast.Module) -> Iterator[str]:
    """Yield the uses of the environment in a module."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and node.attr in ("environ", "getenv")
            and _name(node.value) == "os"
        ):
            yield node.attr


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the modules that a module imports, also for annotations only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def _name(node: ast.expr) -> str:
    """Return the last part of a name: `c` of `a.b.c`; empty for anything else."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
