"""Playlists of other programs: what is taken over, and what is refused by name."""

from __future__ import annotations

import pytest

from services.uploader.importing.tree import (
    Entry,
    NotImportable,
    Variant,
    parse_segments,
    parse_variants,
    rendition_names,
    resolve,
    target_duration,
)

MASTER = """#EXTM3U
#EXT-X-VERSION:3
#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="avc1.64001f,mp4a.40.2",RESOLUTION=1280x720,FRAME-RATE=25.000
high/index.m3u8

#EXT-X-STREAM-INF:RESOLUTION=640x360,CODECS="avc1.64001e"
low.m3u8
"""
MEDIA = "#EXTM3U\n#EXT-X-KEY:METHOD=NONE\n#EXTINF:9.6,title\na.ts\n#EXTINF:4,\nb.ts\n#EXT-X-ENDLIST\n"


def test_variants_are_read_with_their_attributes() -> None:
    assert parse_variants(MASTER, "m") == [
        Variant("high/index.m3u8", 1280, 720, "avc1.64001f,mp4a.40.2", 25.0),
        Variant("low.m3u8", 640, 360, "avc1.64001e", None),
    ]


def test_segments_are_read_with_their_durations() -> None:
    entries = parse_segments("\ufeff" + MEDIA.replace("\n", "\r\n"), "p")
    assert entries == [Entry("a.ts", 9.6), Entry("b.ts", 4.0)]
    assert target_duration(entries) == 10


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is not a playlist"),
        ("<html>", "is not a playlist"),
        ("#EXTM3U\n", "has no variant"),
        (MEDIA, "is not a multivariant playlist"),
        (MASTER.replace("RESOLUTION=640x360,", ""), "needs RESOLUTION, CODECS"),
        (MASTER.replace("25.000", "fast"), "is not a number"),
        (MASTER + '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a"\n', "sound or captions are separate"),
    ],
)
def test_multivariant_playlist_is_refused_with_the_reason(text: str, told: str) -> None:
    with pytest.raises(NotImportable, match=told):
        parse_variants(text, "m")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("#EXT-X-ENDLIST", ""), "still growing"),
        (("METHOD=NONE", "METHOD=AES-128"), "encrypted"),
        (("#EXTINF:4,", "#EXT-X-BYTERANGE:1@2"), "byte ranges of files"),
        (("#EXTINF:4,", "#EXT-X-DISCONTINUITY"), "clock jumps"),
        (("#EXTINF:9.6,title", '#EXT-X-MAP:URI="i.mp4"'), "fragmented MP4"),
        (("#EXTINF:9.6,title", ""), "a.ts has no duration"),
        (("#EXTINF:9.6,title", "#EXTINF:long,"), "is not a duration"),
        (("#EXTINF:9.6,title", "#EXTINF:nan,"), "is not the duration"),
    ],
)
def test_media_playlist_is_refused_with_the_reason(change: tuple[str, str], told: str) -> None:
    with pytest.raises(NotImportable, match=told):
        parse_segments(MEDIA.replace(*change), "p")


@pytest.mark.parametrize(
    "uri", ["/etc/a.ts", "../a.ts", "x/../../a.ts", "https://h/a.ts", "a.ts?x", "data:a", "./a.ts"]
)
def test_uri_that_leaves_the_folder_is_refused(uri: str) -> None:
    with pytest.raises(NotImportable, match="is not next to"):
        resolve("films/one", uri, "p")


def test_uri_means_a_key_below_the_folder() -> None:
    assert resolve("films/one", "high/a.ts", "p") == "films/one/high/a.ts"


def test_renditions_are_named_after_their_folders_or_sizes_and_differ() -> None:
    uris = ("720p/i.m3u8", "High Quality/i.m3u8", "x.m3u8", "other/720p/i.m3u8")
    variants = [Variant(uri, 1280, 720, "a", None) for uri in uris]
    assert rendition_names(variants) == ["720p", "720p-2", "720p-3", "720p-4"]
