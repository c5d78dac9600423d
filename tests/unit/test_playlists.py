"""Playlists as whole texts, and what must hold for any segments."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace

import m3u8
import pytest

from shared.contracts.events import RenditionQuality
from shared.hls.playlists import complete, media_playlist, multivariant_playlist
from shared.hls.renditions import (
    KeyFrame,
    RenditionSet,
    StoredSegment,
    average_bps,
    measure,
    of_rendition,
    peak_bps,
    playable_segments,
)

TWO = RenditionSet((("720p", 1280, 720), ("360p", 640, 360)), 30000 / 1001, 10)
CODECS = {"720p": "avc1.64001f,mp4a.40.2", "360p": "avc1.64001e,mp4a.40.2"}


def run(name: str, sizes: list[int], seconds: float = 10.0, first: int = 1) -> list[StoredSegment]:
    return [StoredSegment(name, index, seconds, size) for index, size in enumerate(sizes, start=first)]


def test_rendition_set_survives_a_round_trip_through_json() -> None:
    value = json.loads(json.dumps(TWO.to_json()))
    assert value == {
        "renditions": [
            {"name": "720p", "width": 1280, "height": 720},
            {"name": "360p", "width": 640, "height": 360},
        ],
        "frameRate": 30000 / 1001,
        "targetDurationSeconds": 10,
        "qualities": {},
    }
    assert RenditionSet.from_json(value) == TWO


def test_rendition_set_of_an_earlier_version_has_no_qualities() -> None:
    value = {name: part for name, part in TWO.to_json().items() if name != "qualities"}
    assert RenditionSet.from_json(value) == TWO


def test_quality_of_a_rendition_is_passed_to_its_measurements() -> None:
    quality = RenditionQuality(vmaf_mean=93.4, vmaf_p5=88.0)
    judged = RenditionSet.from_json(replace(TWO, qualities={"720p": quality}).to_json())
    segments = [*run("720p", [100], 10.01), *run("360p", [50], 10.01)]
    codecs = dict.fromkeys(("720p", "360p"), "avc1.64001f")
    large, small = measure(judged, segments, codecs)
    assert large.to_json()["quality"] == {"vmafMean": 93.4, "vmafP5": 88.0}
    assert "quality" not in small.to_json()


def test_media_playlist_is_vod_with_an_end_when_complete() -> None:
    segments = [*run("720p", [1, 1], 10.01), StoredSegment("720p", 3, 3.5035, 1)]
    assert media_playlist(segments, 10, complete=True) == (
        "#EXTM3U\n"
        "#EXT-X-VERSION:3\n"
        "#EXT-X-TARGETDURATION:10\n"
        "#EXT-X-MEDIA-SEQUENCE:0\n"
        "#EXT-X-PLAYLIST-TYPE:VOD\n"
        "#EXT-X-INDEPENDENT-SEGMENTS\n"
        "#EXTINF:10.010000,\n"
        "segment_001.ts\n"
        "#EXTINF:10.010000,\n"
        "segment_002.ts\n"
        "#EXTINF:3.503500,\n"
        "segment_003.ts\n"
        "#EXT-X-ENDLIST\n"
    )


def test_media_playlist_has_type_event_and_no_end_when_it_may_grow() -> None:
    assert media_playlist(run("720p", [1]), 10, complete=False) == (
        "#EXTM3U\n"
        "#EXT-X-VERSION:3\n"
        "#EXT-X-TARGETDURATION:10\n"
        "#EXT-X-MEDIA-SEQUENCE:0\n"
        "#EXT-X-PLAYLIST-TYPE:EVENT\n"
        "#EXT-X-INDEPENDENT-SEGMENTS\n"
        "#EXT-X-START:TIME-OFFSET=0.001,PRECISE=YES\n"
        "#EXTINF:10.000000,\n"
        "segment_001.ts\n"
    )


def test_media_playlist_has_type_event_and_an_end_when_it_will_not_grow() -> None:
    text = media_playlist(run("720p", [1]), 10, complete=False, grows=False)
    assert "#EXT-X-PLAYLIST-TYPE:EVENT\n" in text
    assert text.endswith("segment_001.ts\n#EXT-X-ENDLIST\n")
    assert "EXT-X-START" not in text + media_playlist(run("720p", [1]), 10, complete=True)


def test_media_playlist_stops_at_the_gap_when_a_segment_is_missing() -> None:
    segments = [*run("720p", [1, 1]), *run("720p", [1], first=4)]
    assert "segment_002.ts" in media_playlist(segments, 10, complete=False)
    assert "segment_004.ts" not in media_playlist(segments, 10, complete=False)
    assert "segment" not in media_playlist(segments[1:], 10, complete=False)


def test_media_playlist_only_appends_when_more_is_stored() -> None:
    segments = run("720p", [1] * 12)
    texts = [media_playlist(segments[:count], 10, complete=False) for count in range(1, 13)]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))


def test_multivariant_playlist_begins_with_the_variant_near_2_mbit_when_there_are_many() -> None:
    sizes = {"1080p": 6_000_000, "720p": 3_500_000, "480p": 1_900_000, "360p": 900_000}
    shapes = {"1080p": (1920, 1080), "720p": (1280, 720), "480p": (854, 480), "360p": (640, 360)}
    presentation = RenditionSet(tuple((name, *shape) for name, shape in shapes.items()), 25.0, 10)
    segments = [segment for name, size in sizes.items() for segment in run(name, [size, size // 2])]
    codecs = dict.fromkeys(sizes, "avc1.640028,mp4a.40.2")
    text = multivariant_playlist(measure(presentation, segments, codecs))
    assert text == (
        "#EXTM3U\n"
        "#EXT-X-VERSION:3\n"
        "#EXT-X-INDEPENDENT-SEGMENTS\n"
        '#EXT-X-STREAM-INF:BANDWIDTH=2800000,AVERAGE-BANDWIDTH=2100000,CODECS="avc1.640028,mp4a.40.2",'
        "RESOLUTION=1280x720,FRAME-RATE=25.000\n"
        "720p/playlist.m3u8\n"
        '#EXT-X-STREAM-INF:BANDWIDTH=4800000,AVERAGE-BANDWIDTH=3600000,CODECS="avc1.640028,mp4a.40.2",'
        "RESOLUTION=1920x1080,FRAME-RATE=25.000\n"
        "1080p/playlist.m3u8\n"
        '#EXT-X-STREAM-INF:BANDWIDTH=1520000,AVERAGE-BANDWIDTH=1140000,CODECS="avc1.640028,mp4a.40.2",'
        "RESOLUTION=854x480,FRAME-RATE=25.000\n"
        "480p/playlist.m3u8\n"
        '#EXT-X-STREAM-INF:BANDWIDTH=720000,AVERAGE-BANDWIDTH=540000,CODECS="avc1.640028,mp4a.40.2",'
        "RESOLUTION=640x360,FRAME-RATE=25.000\n"
        "360p/playlist.m3u8\n"
    )


def test_multivariant_playlist_is_unchanged_when_a_parser_reads_it_back() -> None:
    segments = [*run("720p", [3_500_001, 3_400_000]), *run("360p", [900_000, 800_000])]
    measured = measure(TWO, segments, CODECS)
    parsed = m3u8.loads(multivariant_playlist(measured))
    assert parsed.is_independent_segments
    by_uri = {item.uri: item.stream_info for item in parsed.playlists}
    for rendition in measured:
        info = by_uri[f"{rendition.name}/playlist.m3u8"]
        assert info.bandwidth == rendition.bandwidth
        assert info.average_bandwidth == rendition.average_bandwidth
        assert info.codecs == rendition.codecs
        assert info.resolution == (rendition.width, rendition.height)
        assert info.frame_rate == 29.97


def test_measure_takes_the_worst_run_and_rounds_up_when_segments_differ() -> None:
    segments = [*run("720p", [1000, 3001, 1000]), *run("360p", [10, 10, 10])]
    large, small = measure(TWO, segments, CODECS)
    assert (large.name, large.bandwidth, large.average_bandwidth) == ("720p", 2401, 1334)
    assert (small.name, small.bandwidth, small.average_bandwidth) == ("360p", 8, 8)


def test_peak_joins_short_segments_when_each_is_too_short_to_count() -> None:
    segments = run("720p", [100, 900, 100, 100], seconds=2.0)
    assert peak_bps(segments, 10) == (100 + 900 + 100) * 8 / 6


def test_peak_is_the_average_when_the_video_is_shorter_than_half_a_target() -> None:
    segments = run("720p", [500], seconds=1.0)
    assert peak_bps(segments, 10) == average_bps(segments) == 4000


def test_measure_raises_value_error_when_a_rendition_is_missing() -> None:
    with pytest.raises(ValueError, match="360p"):
        measure(TWO, run("720p", [1]), CODECS)
    with pytest.raises(ValueError, match="360p"):
        measure(TWO, [*run("720p", [1]), *run("360p", [1])], {"720p": "avc1"})


def test_playable_segments_are_the_same_number_for_each_rendition_when_one_rendition_is_behind() -> None:
    segments = [*run("720p", [1, 1, 1]), *run("720p", [1], first=5), *run("360p", [1, 1]), *run("old", [1])]
    shown = playable_segments(TWO, segments)
    assert [segment.index for segment in of_rendition(shown, "720p")] == [1, 2]
    assert [segment.index for segment in of_rendition(shown, "360p")] == [1, 2]
    assert len(shown) == 4


def test_there_are_no_playable_segments_when_a_rendition_lacks_its_first_segment() -> None:
    assert playable_segments(TWO, [*run("720p", [1, 1]), *run("360p", [1], first=2)]) == ()
    assert playable_segments(TWO, []) == ()


@pytest.mark.parametrize("seed", range(20))
def test_playlists_keep_their_invariants_for_any_segments(seed: int) -> None:
    chance = random.Random(seed)
    count = chance.randint(1, 40)
    durations = [round(chance.uniform(0.2, 10.4), 6) for _ in range(count)]
    segments = [
        StoredSegment(name, index, seconds, chance.randint(1, 9_000_000))
        for name in CODECS
        for index, seconds in enumerate(durations, start=1)
    ]
    chance.shuffle(segments)
    shown = playable_segments(TWO, segments)
    assert len(shown) == 2 * count
    for rendition in measure(TWO, shown, CODECS):
        mine = of_rendition(shown, rendition.name)
        assert rendition.bandwidth >= rendition.average_bandwidth
        assert rendition.bandwidth == measure(TWO, segments, CODECS)[rendition.name == "360p"].bandwidth
        parsed = m3u8.loads(media_playlist(mine, TWO.target_duration_seconds, complete=True))
        assert [segment.duration for segment in parsed.segments] == durations
        assert max(round(seconds) for seconds in durations) <= parsed.target_duration
        assert (parsed.playlist_type, parsed.is_endlist) == ("vod", True)


FILM = RenditionSet((("360p", 640, 360),), 25.0, 4)
FILM_SEGMENTS = [StoredSegment("360p", 1, 4.0, 100_000), StoredSegment("360p", 2, 3.0, 80_000)]
FILM_KEY_FRAMES = {
    ("360p", 1): (KeyFrame(0.0, 564, 9_400), KeyFrame(2.0, 50_008, 4_700)),
    ("360p", 2): (KeyFrame(0.0, 564, 9_400),),
}


def test_iframe_playlist_names_the_bytes_of_each_key_frame_when_they_are_known() -> None:
    found = complete(FILM, FILM_SEGMENTS, {"360p": "avc1.64001e,mp4a.40.2"}, FILM_KEY_FRAMES)
    assert found.texts["360p/iframes.m3u8"] == (
        "#EXTM3U\n"
        "#EXT-X-VERSION:5\n"
        "#EXT-X-TARGETDURATION:3\n"
        "#EXT-X-MEDIA-SEQUENCE:0\n"
        "#EXT-X-PLAYLIST-TYPE:VOD\n"
        "#EXT-X-I-FRAMES-ONLY\n"
        '#EXT-X-MAP:URI="segment_001.ts",BYTERANGE="564@0"\n'
        "#EXTINF:2.000000,\n"
        "#EXT-X-BYTERANGE:9400@564\n"
        "segment_001.ts\n"
        "#EXTINF:2.000000,\n"
        "#EXT-X-BYTERANGE:4700@50008\n"
        "segment_001.ts\n"
        "#EXTINF:3.000000,\n"
        "#EXT-X-BYTERANGE:9400@564\n"
        "segment_002.ts\n"
        "#EXT-X-ENDLIST\n"
    )
    assert list(found.texts) == ["360p/playlist.m3u8", "360p/iframes.m3u8", "master.m3u8"]
    last = found.texts["master.m3u8"].splitlines()[-1]
    assert last == (
        "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=37600,AVERAGE-BANDWIDTH=26858,"
        'CODECS="avc1.64001e",RESOLUTION=640x360,URI="360p/iframes.m3u8"'
    )


def test_iframe_playlist_is_left_out_when_no_key_frames_are_known() -> None:
    found = complete(FILM, FILM_SEGMENTS, {"360p": "avc1.64001e"}, {})
    assert list(found.texts) == ["360p/playlist.m3u8", "master.m3u8"]
    assert "I-FRAME" not in found.texts["master.m3u8"]
