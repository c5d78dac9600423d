from __future__ import annotations

from services.transcoder.plan.ladder import DEFAULT_PRESETS, build_ladder
from services.transcoder.plan.unavailable_qualities import unmet_wishes


def test_a_quality_larger_than_the_source_is_reported_in_a_warning() -> None:
    rungs = build_ladder(320, 180, DEFAULT_PRESETS, ["720p"])
    [warning] = unmet_wishes(["720p"], rungs, (320, 180))
    assert (warning.code, warning.start_seconds) == ("quality_unavailable", None)
    assert "320x180" in warning.message
    assert "720p" in warning.message


def test_available_qualities_need_no_warning() -> None:
    rungs = build_ladder(1280, 720, DEFAULT_PRESETS, ["720p", "360p"])
    assert unmet_wishes(["720p", "360p"], rungs, (1280, 720)) == ()
    assert unmet_wishes([], rungs, (1280, 720)) == ()
    [warning] = unmet_wishes(["1080p", "720p"], rungs, (1280, 720))
    assert "1080p:" in warning.message
