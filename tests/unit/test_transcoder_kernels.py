"""Each GPU run gets its own copy of the compiled kernels."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.transcoder.ffmpeg.cuda_cache import FOLDER_NAME, lent_kernels
from services.transcoder.ffmpeg.sandbox import NOTHING, Access

ON_GPU = ("ffmpeg", "-hwaccel", "cuda", "-i", "x")


@pytest.fixture
def kept(tmp_path):
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "index").write_text("as translated")
    return folder


def test_a_run_gets_a_copy_that_is_removed_with_it(tmp_path, kept):
    job = tmp_path / "job"
    job.mkdir()
    with lent_kernels(str(kept), ON_GPU, Access(writes=(str(job),))) as environment:
        copy = Path(environment["CUDA_CACHE_PATH"])
        assert copy == job / FOLDER_NAME
        (copy / "index").write_text("changed")
    assert list(job.iterdir()) == []
    assert (kept / "index").read_text() == "as translated"


def test_no_copy_is_made_for_a_run_without_the_gpu_or_without_a_place_to_write(tmp_path, kept):
    with lent_kernels(str(kept), ("ffmpeg", "-i", "x"), Access(writes=(str(tmp_path),))) as environment:
        assert environment == {}
    with lent_kernels(str(kept), ON_GPU, NOTHING) as environment:
        assert environment == {}


def test_no_copy_is_made_when_nothing_was_compiled(tmp_path):
    with lent_kernels(None, ON_GPU, Access(writes=(str(tmp_path),))) as environment:
        assert environment == {}


def test_a_run_continues_when_the_cache_was_removed(tmp_path, kept):
    (kept / "index").unlink()
    kept.rmdir()
    with lent_kernels(str(kept), ON_GPU, Access(writes=(str(tmp_path),))) as environment:
        assert environment == {}
