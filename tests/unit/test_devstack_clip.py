"""The clip that the demo makes for itself."""

from __future__ import annotations

from pathlib import Path

from devstack.clip import clip_arguments, melody


def test_clip_arguments_end_with_the_file() -> None:
    arguments = clip_arguments(Path("/somewhere/clip.mp4"))
    assert arguments[-2:] == ["-y", "/somewhere/clip.mp4"]
    assert arguments.count("lavfi") == 3


def test_melody_plays_each_note_at_its_time() -> None:
    expression = melody([440.0, 220.0])
    assert "440.0*eq(mod(floor(t/0.5)\\,2)\\,0)+220.0*eq(mod(floor(t/0.5)\\,2)\\,1)" in expression
