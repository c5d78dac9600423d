"""The table of formats."""

from __future__ import annotations

from tests.formats import DOCUMENT, document


def test_table_of_formats_is_current():
    assert DOCUMENT.read_text() == document(), "python -m tests.formats"
