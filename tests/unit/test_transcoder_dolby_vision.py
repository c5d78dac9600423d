"""Dolby Vision that nothing else can show is refused by name, the rest converted."""

from __future__ import annotations

import pytest

from services.transcoder.probe.rejections import check_colours
from shared.errors import UnsupportedCodec


def record(profile: int, compatible: int) -> dict:
    kind = "DOVI configuration record"
    data = {"side_data_type": kind, "dv_profile": profile, "dv_bl_signal_compatibility_id": compatible}
    return {"side_data_list": [{"side_data_type": "Display Matrix"}, data]}


def picture(rpu_profile: int, full: int) -> dict:
    kind = "Dolby Vision Metadata"
    data = {"side_data_type": kind, "vdr_rpu_profile": rpu_profile, "bl_video_full_range_flag": full}
    return {"width": 64, "side_data_list": [data]}


@pytest.mark.parametrize(
    ("stream", "pictures"),
    [(record(5, 0), []), (record(10, 0), []), (record(5, 0), [picture(0, 1)]), ({}, [{}, picture(0, 1)])],
)
def test_colours_that_only_dolby_vision_can_show_are_refused(stream, pictures):
    with pytest.raises(UnsupportedCodec, match="profile 5"):
        check_colours(stream, pictures)


@pytest.mark.parametrize(
    ("stream", "pictures"),
    [
        *(
            (record(profile, compatible), [])
            for profile, compatible in ((8, 1), (8, 4), (7, 6), (10, 1), (9, 2))
        ),
        (record(8, 4), [picture(1, 0)]),
        ({}, [picture(1, 0), {}]),
    ],
)
def test_dolby_vision_with_a_base_for_others_is_accepted(stream, pictures):
    check_colours(stream, pictures)
