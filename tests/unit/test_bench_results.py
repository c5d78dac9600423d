"""Ratios, scores and tables of the encoding benchmark."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from tests.bench import results
from tests.bench.chart import bars
from tests.bench.measure import CommandFailed, Usage, measure
from tests.bench.quality import read_scores, read_sizes
from tests.bench.report import disturbed, quality_cell, ratio_row, usage_row
from tests.bench.results import Quality, Ratio, Result, as_json, ratios

if TYPE_CHECKING:
    from pathlib import Path

OURS = Result(results.OURS, Usage(20.0, 33.0, 2**20, 0.5))
OTHERS = [
    Result(results.IN_TURN, Usage(60.0, 90.0, 1, 50.0)),
    Result(results.AT_ONCE, Usage(40.0, 80.0, 1, 20.0)),
    Result(results.LIMIT, Usage(15.0, 30.0, 1)),
    Result(results.SHAKA, Usage(25.0, 50.0, 1)),
    Result(results.BEFORE, Usage(30.0, 44.0, 1)),
]


def test_ratios_compare_with_the_better_of_two_contenders_and_are_judged() -> None:
    found = ratios([OURS, *OTHERS], source_seconds=600)
    assert [(each.value, each.is_met) for each in found] == [
        (0.5, True),
        (0.75, True),
        (1.1, False),
        (None, None),
        (0.8, True),
        (None, None),
        (0.025, True),
    ]


def test_ratios_have_no_value_when_a_contender_failed() -> None:
    failed = [Result(each.name, each.usage, error="broken") for each in OTHERS]
    assert [each.value for each in ratios([OURS, *failed], 600)] == [None] * 6 + [0.025]


def test_fixed_cost_is_what_ours_takes_for_a_clip_of_tiny_pictures() -> None:
    (ratio,) = results.fixed_cost([OURS, *OTHERS])
    assert (ratio.value, ratio.is_met) == (33.0, False)


def test_first_playable_is_not_judged_when_the_source_is_short() -> None:
    assert results.first_playable(OURS.usage, source_seconds=60).is_met is None


def test_consecutive_usages_add_up() -> None:
    total = Usage(1.0, 2.0, 30, 0.5, 0.25) + Usage(3.0, 4.0, 20, 0.5, 0.5)
    assert total == Usage(4.0, 6.0, 30, None, 0.75)


def test_read_scores_finds_both() -> None:
    output = (
        "[Parsed_psnr_4 @ 0x1] PSNR y:38.1 u:43.2 v:44.3 average:39.36 min:35.1 max:48.7\n"
        "[Parsed_ssim_9 @ 0x2] SSIM Y:0.97 (15.9) U:0.98 (19.1) V:0.98 (19.9) All:0.974321 (15.9)\n"
    )
    assert read_scores(output) == (39.36, 0.974321)
    assert read_scores(output.replace("39.36", "inf"))[0] == 100.0


def test_read_scores_refuses_output_without_them() -> None:
    with pytest.raises(ValueError, match="no scores"):
        read_scores("Conversion failed!")


def test_read_sizes_skips_side_data() -> None:
    assert read_sizes("1200,\n\n800\nside_data,x\n") == [1200, 800]


def test_rows_show_figures_and_failures() -> None:
    ours, failed = as_json(OURS) | {"title": "a"}, as_json(Result("b", error="x")) | {"title": "b"}
    assert usage_row(ours) == ["a", "20.0", "33.0", "1", "0.5", "0.0"]
    assert usage_row(failed) == ["b (failed)", "-", "-", "-", "-", "-"]
    assert quality_cell(as_json(Quality("360p", 9, 750_400, 42.674, 0.98971))) == "750, 42.67, 0.9897"
    assert ratio_row(as_json(Ratio("r", 0.5, "<= 0.55", True))) == ["r", "0.500", "<= 0.55", "met"]


def test_disturbed_lists_contenders_slowed_down_by_other_work() -> None:
    busy = as_json(Result("ours", Usage(10.0, 15.0, 1, None, 5.0))) | {"title": "a"}
    calm = as_json(Result("limit", Usage(10.0, 15.0, 1, None, 1.0))) | {"title": "b"}
    failed = as_json(Result("b", error="x")) | {"title": "c"}
    assert disturbed([busy, calm, failed], cores=2) == ["a"]


def test_bars_leave_out_contenders_without_a_figure() -> None:
    contenders = [{"title": "a", **as_json(OURS)}, {"title": "limit", **as_json(OTHERS[2])}]
    run = {"contenders": [*contenders, {"title": "failed", "usage": None}]}
    assert bars(run, "wall_seconds", 1.0) == [("a", 20.0), ("limit", 15.0)]
    assert bars(run, "first_playable_seconds", 1.0) == [("a", 0.5)]


def test_as_json_returns_what_json_can_hold() -> None:
    assert json.loads(json.dumps(as_json(OURS)))["usage"]["wall_seconds"] == 20.0


def test_measure_counts_time_of_grandchildren(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    usage = measure([[[sys.executable, "-c", nested]]], log=tmp_path / "log", timeout_seconds=30)
    assert usage.cpu_seconds >= 0.2
    assert usage.wall_seconds >= 0.2


def test_measure_reports_the_last_output_when_a_command_fails(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import sys; sys.exit('no such codec')"]
    with pytest.raises(CommandFailed, match="ended with 1: no such codec"):
        measure([[argv]], log=tmp_path / "log", timeout_seconds=30)


def test_measure_ends_a_command_that_runs_too_long(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="ended with -9"):
        measure([[["sleep", "60"]]], log=tmp_path / "log", timeout_seconds=0.2)
