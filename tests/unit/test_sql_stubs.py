"""The types of the SQL statements: current, and a wrong name or argument fails the type check."""

from __future__ import annotations

import ast
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from shared.database import statements as database_statements
from tests.e2e.system import REPO
from tools.sql_stubs import STUB, class_name, file_names, parameters, statements

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = {node.name: node for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.ClassDef)}


@pytest.mark.parametrize("name", file_names())
def test_stub_names_the_statements_of_a_file_and_their_parameters(name):
    found = {
        method.name: [argument.arg for argument in method.args.kwonlyargs]
        for method in CLASSES[class_name(name)].body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert hasattr(database_statements, name)
    assert found == {each: parameters(name, each) for each in statements(name)}, "run make sql-stubs"


WRONG = {
    "delet(connection, video_id=video_id)": 'has no attribute "delet"',
    "delete(connection, id=video_id)": 'Unexpected keyword argument "id"',
    "delete(connection)": 'Missing named argument "video_id"',
    "delete(connection, video_id=7)": 'incompatible type "int"',
}


def test_wrong_statement_or_argument_fails_the_type_check(tmp_path: Path):
    calls = "".join(f"    await videos.{call}\n" for call in WRONG)
    (tmp_path / "wrong.py").write_text(
        "from uuid import UUID\nfrom shared.database.pool import Connection\n"
        "from shared.database.statements import videos\n\n"
        f"async def wrong(connection: Connection, video_id: UUID) -> None:\n{calls}"
        "    await videos.delete(connection, video_id=video_id)\n"
    )
    run = (sys.executable, "-m", "mypy", "--strict", "--config-file", str(REPO / "pyproject.toml"))
    checked = subprocess.run(
        (*run, str(tmp_path / "wrong.py")), cwd=REPO, capture_output=True, text=True, check=False
    )
    assert f"Found {len(WRONG)} errors" in checked.stdout, checked.stdout + checked.stderr
    for message in WRONG.values():
        assert message in checked.stdout
