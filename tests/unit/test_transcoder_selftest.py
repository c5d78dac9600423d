"""The output of the GPU self-test, and its check of a join."""

from __future__ import annotations

from fractions import Fraction

import pytest

from services.transcoder.selftest.report import Outcome, exit_code, join_problem, missing, table

GOOD = Outcome("trial encode", "ok", "NVENC opens and encodes")
BAD = Outcome("join of NVENC and libx264", "failed", "720p:\n  decode times do not rise")
PACKETS = [(7200, 0), (18000, 3600), (10800, 7200), (14400, 10800)]  # I P B B at 25 a second


def test_the_table_says_what_failed_and_why():
    assert table([GOOD, BAD]).splitlines() == [
        "ok      trial encode               NVENC opens and encodes",
        "failed  join of NVENC and libx264  720p: decode times do not rise",
        "1 of 2 checks failed",
    ]
    assert exit_code([GOOD, BAD]) == 1


def test_the_table_says_when_all_is_well():
    assert table([GOOD]).splitlines()[-1] == "all 1 checks are ok"
    assert exit_code([GOOD]) == 0


def test_only_the_end_of_a_long_message_is_shown():
    said = table([Outcome("a", "failed", "x" * 1000 + " Conversion failed!")]).splitlines()[0]
    assert said.endswith("x Conversion failed!")
    assert len(said) < 330


@pytest.mark.parametrize(
    ("words", "said", "advised"),
    [
        (
            "[h264_nvenc] Cannot load libcuda.so.1",
            "driver's libraries were not found",
            "NVIDIA_DRIVER_CAPABILITIES",
        ),
        ("[h264_nvenc] No capable devices found", "no GPU with an encoder", "nvidia-smi"),
        (
            "[h264_nvenc] OpenEncodeSessionEx failed: out of memory (10)",
            "no encoding session free",
            "stop other",
        ),
        ("Unknown encoder 'h264_nvenc'", "built without NVENC", "--enable-nvenc"),
        ("something new", "the trial encode failed", "docs/gpu.md"),
    ],
)
def test_missing_parts_are_reported_with_advice(words, said, advised):
    first, second, third = missing(words).splitlines()
    assert said in first
    assert second == f"ffmpeg says: {words}"
    assert advised in third


@pytest.mark.parametrize(
    ("packets", "problem"),
    [
        (PACKETS, None),
        (PACKETS[:3], "3 frames instead of 4"),
        (
            [(7200, 0), (18000, 3600), (10800, 7200), (14500, 10800)],
            "a frame is shown at the wrong time",
        ),
        ([(7200, 0), (18000, 3600), (10800, 3600), (14400, 10800)], "decode times do not rise"),
        ([(7200, 0), (18000, 3600), (10800, 10801), (14400, 10802)], "a frame is decoded after it is shown"),
    ],
)
def test_a_join_is_judged_by_count_and_times(packets, problem):
    assert join_problem(packets, 4, Fraction(25)) == problem
