from __future__ import annotations

from dataclasses import replace

from services.transcoder.encode.thumbnail import moments_argv
from tests.unit.transcoder_values import plan


def test_moments_are_drawn_at_key_frames_when_the_video_is_long():
    short = plan()
    long = replace(short, total_frames=3000)
    assert moments_argv(long, "/in.mp4", "/out.jpg").count("nokey") == 4
    assert "nokey" not in moments_argv(short, "/in.mp4", "/out.jpg")


def test_moments_are_laid_out_by_one_process():
    argv = moments_argv(plan(), "/in.mp4", "/out.jpg")
    assert argv.count("-i") == 4
    graph = argv[argv.index("-filter_complex") + 1]
    assert "[c0][c1][c2][c3]xstack=inputs=4:layout=0_0|w0_0|0_h0|w0_h0," in graph
