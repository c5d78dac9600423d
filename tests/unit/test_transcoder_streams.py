"""What ffprobe's description of later pictures changes about a stream."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.transcoder.command.colour import is_bt709, reference_colours, scale_to_bt709
from services.transcoder.media import Colour
from services.transcoder.probe.streams import changes_dynamic_range, colour_change
from tests.unit.transcoder_values import VIDEO

SD = Colour("tv", "bt709", "bt709", "smpte170m")
HD = Colour("tv", "bt709", "bt709", "bt709")
WIDE = Colour("tv", "bt2020", "bt709", "bt2020nc")
HDR = Colour("tv", "bt2020", "smpte2084", "bt2020nc")
UNTAGGED = Colour()


@pytest.mark.parametrize(
    ("later", "change"),
    [
        ([], "none"),
        ([SD, SD], "none"),
        ([SD, HD], "coding"),
        ([replace(SD, range="pc")], "coding"),
        ([replace(SD, range="")], "none"),
        ([WIDE], "primaries"),
        ([replace(HD, primaries="")], "coding"),
        ([UNTAGGED, HD], "none"),  # the coding of untagged pictures is unknown
        ([HDR], "none"),
    ],
)
def test_changes_of_colours_are_seen_in_later_pictures(later, change):
    assert colour_change(SD, later) == change


def test_change_between_sdr_and_hdr_is_reported():
    assert changes_dynamic_range(SD, [HD, WIDE]) == []
    assert [warning.code for warning in changes_dynamic_range(SD, [HD, HDR])] == ["picture_differs"]


def test_pictures_are_read_by_their_own_description_where_it_changes():
    coding = replace(VIDEO, colours_change="coding")
    assert not is_bt709(coding)
    for filters in (scale_to_bt709(coding, 64, 36), reference_colours(coding, 64, 36)):
        assert "in_color_matrix=auto" in filters[0]
        assert "auto" not in filters[1]
    graph = ",".join(scale_to_bt709(replace(VIDEO, colours_change="primaries"), 64, 36))
    assert "pin=" not in graph
    assert "min=" not in graph


@pytest.mark.parametrize(
    ("pixels", "is_blended"), [("yuva444p10le", True), ("rgba", True), ("yuv420p", False)]
)
def test_transparent_areas_become_black(pixels, is_blended):
    filters = scale_to_bt709(replace(VIDEO, pix_fmt=pixels), 64, 36)
    assert (filters[0] == "premultiply=inplace=1") == is_blended
    assert scale_to_bt709(replace(VIDEO, pix_fmt="bgra", codec="gif"), 64, 36)[0] != "premultiply=inplace=1"


def test_matrices_that_swscale_does_not_know_are_read_by_zscale():
    ycgco = replace(VIDEO, colour=replace(HD, matrix="ycgco"))
    assert "min=ycgco" in ",".join(scale_to_bt709(ycgco, 64, 36))
    derived = replace(VIDEO, colour=replace(HD, matrix="chroma-derived-nc"))
    assert is_bt709(derived)
