from __future__ import annotations

import random

from services.transcoder.byte_spans import cut, fewer, merged, missing, total


def test_spans_are_merged_across_gaps_that_are_small_enough():
    assert merged([(5, 8), (0, 2), (1, 3), (9, 9)]) == ((0, 3), (5, 8))
    assert merged([(0, 3), (5, 8), (12, 13)], gap=2) == ((0, 8), (12, 13))


def test_fewer_spans_close_the_smallest_gaps():
    spans = ((0, 1), (2, 3), (10, 11), (14, 15))
    assert fewer(spans, 4) == spans
    assert fewer(spans, 3) == ((0, 3), (10, 11), (14, 15))
    assert fewer(spans, 1) == ((0, 15),)


def test_missing_is_what_is_wanted_and_not_present():
    rng = random.Random(1)
    for _ in range(200):
        wanted, present = (
            merged((place, place + rng.randrange(9)) for place in rng.sample(range(60), 5)) for _ in range(2)
        )
        left = {byte for begin, end in wanted for byte in range(begin, end)}
        left -= {byte for begin, end in present for byte in range(begin, end)}
        found = missing(wanted, present)
        assert {byte for begin, end in found for byte in range(begin, end)} == left
        assert total(found) == len(left)


def test_long_spans_are_cut_into_pieces():
    assert cut([(0, 5), (10, 12)], 2) == [(0, 2), (2, 4), (4, 5), (10, 12)]
