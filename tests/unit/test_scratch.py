"""The scratch of a process with a work bucket is emptied when its process starts, and by no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.workspace.scratch import clean_scratch

if TYPE_CHECKING:
    from pathlib import Path


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_what_a_dead_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    left = [
        put(tmp_path / "chunks" / "v" / "00000-1" / "360p" / "segment_001.ts"),
        put(tmp_path / "uploads" / "import.part"),
        put(tmp_path / "originals" / "v" / "source"),
    ]
    kept = [put(tmp_path / "sources" / "cached"), put(tmp_path / "notes.txt")]
    with clean_scratch(tmp_path):
        assert not any(path.exists() for path in left)
        assert all(path.exists() for path in kept)
        assert (tmp_path / "uploads").is_dir()


def test_files_of_a_live_process_stay(tmp_path: Path) -> None:
    with clean_scratch(tmp_path):
        mine = put(tmp_path / "chunks" / "v" / "a.ts")
        with clean_scratch(tmp_path):
            assert mine.exists()
    with clean_scratch(tmp_path):
        assert not mine.exists()


def test_files_stay_while_one_of_two_processes_is_alive(tmp_path: Path) -> None:
    first = clean_scratch(tmp_path)
    first.__enter__()
    with clean_scratch(tmp_path):
        mine = put(tmp_path / "chunks" / "v" / "a.ts")
        first.__exit__(None, None, None)
        with clean_scratch(tmp_path):
            assert mine.exists()
