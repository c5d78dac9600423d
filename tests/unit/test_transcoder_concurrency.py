from __future__ import annotations

import os

import pytest

from services.transcoder.encode.concurrency import chunks_at_once, usable_cores, usable_memory_bytes

GIB = 1024**3


@pytest.mark.parametrize(
    ("cores", "memory", "expected"),
    [(1, 8, 1), (2, 8, 1), (8, 32, 1), (16, 64, 3), (64, 256, 11), (64, 4, 4), (2, 0.5, 1)],
)
def test_chunks_fill_the_machine_when_nothing_is_set(cores, memory, expected):
    found = chunks_at_once(None, "libx264", cores=cores, memory_bytes=int(memory * GIB))
    assert found == expected


def test_a_gpu_gets_two_chunks_at_most_unless_told_otherwise():
    assert chunks_at_once(None, "h264_nvenc", cores=64, memory_bytes=256 * GIB) == 2
    assert chunks_at_once(5, "h264_nvenc", cores=2, memory_bytes=GIB) == 5


def test_limits_of_the_container_count(tmp_path):
    assert usable_cores(tmp_path) == len(os.sched_getaffinity(0))
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text(f"{GIB // 4}\n")
    assert usable_cores(tmp_path) == 1
    assert usable_memory_bytes(tmp_path) == GIB // 4


def test_an_unlimited_container_may_use_the_machine(tmp_path):
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert usable_cores(tmp_path) == len(os.sched_getaffinity(0))
    assert usable_memory_bytes(tmp_path) > GIB // 4
