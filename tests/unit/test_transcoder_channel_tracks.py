"""Sound with a track for each channel."""

from __future__ import annotations

import pytest

from services.transcoder.command.audio import sound_of
from services.transcoder.media import ChannelTrack
from services.transcoder.probe.channel_tracks import find_channels
from tests.unit.transcoder_values import plan

SURROUND = ("FL", "FR", "FC", "LFE", "BL", "BR")


def tracks(count, *labels, channels=1):
    form = {"channels": channels, "codec_name": "pcm_s24le", "sample_rate": "48000", "time_base": "1/48000"}
    names = labels or ("",) * count
    layouts = (f"1 channels ({name})" if name else "mono" for name in names)
    return [{"index": n + 1, "channel_layout": layout, **form} for n, layout in enumerate(layouts)]


def found(container, given, chosen=0, silent=()):
    return [(one.index, one.channel) for one in find_channels(container, given, given[chosen], silent)]


@pytest.mark.parametrize(
    ("count", "chosen", "silent", "expected"),
    [
        (1, 0, (), []),
        (2, 0, (), [(1, "FL"), (2, "FR")]),
        (2, 0, (2,), []),
        (3, 2, (), []),
        (4, 2, (1, 2), [(3, "FL"), (4, "FR")]),
        (6, 0, (4,), list(zip(range(1, 7), SURROUND, strict=True))),
        (8, 0, (), [(1, "FL"), (2, "FR")]),
    ],
)
def test_order_of_mono_tracks_in_mxf_determines_their_channels(count, chosen, silent, expected):
    assert found("mxf", tracks(count), chosen, silent) == expected


def test_other_containers_need_labels():
    assert found("mov", tracks(2)) == []
    assert found("mov", tracks(2, "FR", "FL")) == [(1, "FR"), (2, "FL")]
    assert found("mov", tracks(6, "FL", "FR", "FC", "LFE", "SL", "SR"))[-1] == (6, "BR")
    assert found("mov", tracks(2, "FL", "FL")) == []


def test_tracks_of_several_channels_are_complete():
    assert found("mxf", tracks(2, channels=2)) == []


def test_graph_joins_the_tracks():
    audio = plan().audio
    joined = (ChannelTrack(1, "FL"), ChannelTrack(2, "FR"))
    both = type(audio)(**{name: getattr(audio, name) for name in audio.__slots__} | {"parts": joined})
    assert sound_of(both, 1) == "[1:1][1:2]join=inputs=2:channel_layout=stereo:map=0.0-FL|1.0-FR,"
    assert sound_of(audio, 0) == f"[0:{audio.index}]"
