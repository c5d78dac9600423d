"""Which tracks of a file become the video."""

from __future__ import annotations

import pytest

from services.transcoder.probe.track_choice import Candidates, choose_tracks
from shared.errors import NoVideoStream, UnsupportedCodec

FILM = {"index": 0, "codec_type": "video", "codec_name": "h264", "width": 640, "height": 360}
LARGE = {**FILM, "index": 1, "width": 4000, "height": 3000}
COVER = {**LARGE, "index": 2, "codec_name": "png", "disposition": {"attached_pic": 1}}
SOUND = {"index": 3, "codec_type": "audio", "codec_name": "aac", "sample_rate": "48000", "channels": 2}
OTHER = {**SOUND, "index": 4}
DEFAULT = {"disposition": {"default": 1}}
SUBTITLE = {"index": 5, "codec_type": "subtitle", "codec_name": "srt"}


def choose(*streams, packets=None, programmes=(), unopened=()):
    counts = {stream["index"]: 100 for stream in streams} | (packets or {})
    groups = [frozenset(one) for one in programmes]
    return choose_tracks(Candidates(streams, counts, groups, frozenset(unopened)))


def reason(choice, index):
    return next(track.reason for track in choice.tracks if track.index == index)


def test_the_default_video_then_the_largest_is_chosen():
    assert choose(COVER, FILM, LARGE).video == LARGE
    assert choose(LARGE, {**FILM, **DEFAULT}).video["index"] == 0


@pytest.mark.parametrize("pictures", [1, 2, 4])
def test_film_is_chosen_over_a_larger_track_of_stills(pictures):
    choice = choose({**LARGE, **DEFAULT}, FILM, packets={1: pictures})
    assert choice.video == FILM
    assert "still pictures" in reason(choice, 1)


def test_track_of_two_pictures_is_chosen_where_there_is_no_film():
    assert choose(FILM, packets={0: 2}).video == FILM


def test_video_that_cannot_be_decoded_is_not_chosen_and_is_reported_where_it_is_the_only_one():
    bink = {**LARGE, "codec_name": "bink"}
    assert choose(bink, FILM).video == FILM
    with pytest.raises(UnsupportedCodec, match="bink"):
        choose(bink, SOUND)
    with pytest.raises(NoVideoStream):
        choose(COVER, SOUND)


def test_streams_whose_decoder_does_not_start_are_not_chosen_and_are_reported():
    default = {**OTHER, **DEFAULT, "codec_name": "xHE-AAC (USAC)"}
    choice = choose(FILM, SOUND, default, unopened=[4])
    assert choice.audio == SOUND
    assert reason(choice, 4) == "its codec (xHE-AAC (USAC)) is not supported in this form"
    assert [warning.code for warning in choice.warnings] == ["audio_track_replaced"]
    (silent,) = choose(FILM, default, unopened=[4]).warnings
    assert silent.code == "audio_left_out"
    assert choose(LARGE, FILM, unopened=[1]).video == FILM
    with pytest.raises(UnsupportedCodec, match=r"codec \(h264\) is not supported in this form"):
        choose(FILM, unopened=[0])


def test_the_default_audio_that_is_not_empty_is_chosen():
    default = {**OTHER, **DEFAULT}
    assert choose(FILM, SOUND, default).audio == default
    assert choose(FILM, SOUND, default).warnings == ()
    for packets in (0, 3):
        choice = choose(FILM, SOUND, default, packets={4: packets})
        assert choice.audio == SOUND
        assert [warning.code for warning in choice.warnings] == ["audio_track_replaced"]


def test_audio_that_cannot_be_decoded_is_left_out_and_reported():
    wavpack = {**SOUND, "codec_name": "wavpack"}
    choice = choose(FILM, wavpack)
    assert choice.audio is None
    assert [warning.code for warning in choice.warnings] == ["audio_left_out"]
    assert "wavpack" in choice.warnings[0].message
    assert choose(FILM, wavpack, OTHER).audio == OTHER
    assert choose(FILM).warnings == ()


def test_audio_that_is_silent_throughout_is_not_chosen():
    found = Candidates([FILM, {**SOUND, **DEFAULT}, OTHER], {0: 100, 3: 100, 4: 100}, silent=frozenset({3}))
    choice = choose_tracks(found)
    assert choice.audio == OTHER
    assert "silent throughout" in reason(choice, 3)
    assert [warning.code for warning in choice.warnings] == ["audio_track_replaced"]


def test_commentary_is_not_preferred():
    comment = {**SOUND, "disposition": {"comment": 1}}
    assert choose(FILM, comment, OTHER).audio == OTHER


def test_audio_of_the_same_programme_is_chosen():
    choice = choose(FILM, SOUND, LARGE, OTHER, programmes=[{0, 3}, {1, 4}])
    assert (choice.video, choice.audio) == (LARGE, OTHER)
    assert "a different programme" in reason(choice, 3)
    assert choose(FILM, LARGE, SOUND, programmes=[{0, 3}, {1}]).audio is None
    assert choose(FILM, SOUND, programmes=[{3}]).audio == SOUND


def test_every_track_has_a_reason():
    choice = choose(FILM, LARGE, COVER, SOUND, OTHER, SUBTITLE)
    assert [track.used for track in choice.tracks] == [False, True, False, True, False, False]
    assert all(track.reason for track in choice.tracks)
