"""Kinds of sources that came out wrong elsewhere: what plays is what they hold."""

from __future__ import annotations

import pytest

from tests.content.convert import convert
from tests.content.reported import KINDS


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_source_of_a_reported_kind_is_converted_as_it_is(kind, tmp_path):
    made = await convert(kind.build(tmp_path), tmp_path)
    assert (kind.judge(made), made.codes - {"slower_decoding"}) == ([], set(kind.codes))
