"""Finds sound whose channels are in separate tracks, as broadcasters and editors store it; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from services.transcoder.media import ChannelTrack

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    Json = Mapping[str, Any]

STEREO: Final = ("FL", "FR")
SURROUND: Final = ("FL", "FR", "FC", "LFE", "BL", "BR")  # the order of SMPTE ST 320 and EBU R 123
LAYOUTS: Final = frozenset({frozenset(STEREO), frozenset(SURROUND)})
LABEL: Final = re.compile(r"\((\w+)\)$")  # of a mono track: "1 channels (FL)"
SIDES: Final = {"SL": "BL", "SR": "BR"}


def find_channels(
    container: str, tracks: Sequence[Json], audio: Json, silent: Collection[int] = ()
) -> tuple[ChannelTrack, ...]:
    """Return the tracks that make up the sound that `audio` is a channel of; empty if it is complete.

    `tracks` are the audio tracks that can be decoded, in the order of the file. Labels name the channel, or
    in MXF the order does: six tracks are 5.1, others stereo pairs. A track of a pair whose other one is
    silent stays mono.
    """
    mono = mono_tracks(tracks, audio)
    labels = [_label(track) for track in mono]
    if len(set(labels)) == len(labels) and frozenset(labels) in LAYOUTS:
        return tuple(map(_channel, mono, labels))
    if container != "mxf" or len(mono) < 2:
        return ()
    if len(mono) == len(SURROUND):
        return tuple(map(_channel, mono, SURROUND))
    first = mono.index(audio) // 2 * 2
    pair = mono[first : first + 2]
    if len(pair) < 2 or any(int(track["index"]) in silent for track in pair):
        return ()
    return tuple(map(_channel, pair, STEREO))


def mono_tracks(tracks: Sequence[Json], audio: Json) -> list[Json]:
    """Return the mono tracks of the format of `audio`; empty if that is not one of them."""
    if audio.get("channels") != 1:
        return []
    form = ("channels", "codec_name", "sample_rate", "time_base")
    return [track for track in tracks if all(track.get(name) == audio.get(name) for name in form)]


def _label(track: Json) -> str:
    found = LABEL.search(str(track.get("channel_layout", "")))
    return SIDES.get(found[1], found[1]) if found else ""


def _channel(track: Json, name: str) -> ChannelTrack:
    return ChannelTrack(int(track["index"]), name)
