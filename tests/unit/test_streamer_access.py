"""What a token permits, how playlists are adapted, and the client address of a request."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from services.streamer.access_rules import effective_cap
from services.streamer.delivery_mode import delivery_of, signing_window
from services.streamer.playlist_rewriting import cap_variants, media_playlists, rename_segments
from shared.errors import TokenNotForThis
from shared.http.app import loggable
from shared.http.client_address import client_address
from tests.unit.video_values import video

MASTER = """#EXTM3U
#EXT-X-VERSION:3
#EXT-X-STREAM-INF:BANDWIDTH=3,RESOLUTION=1280x720
720p/playlist.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=360x640
360p/playlist.m3u8
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=2,RESOLUTION=1280x720,URI="720p/iframes.m3u8"
"""
I_FRAMES = """#EXTM3U
#EXT-X-I-FRAMES-ONLY
#EXT-X-MAP:URI="segment_001.ts",BYTERANGE="564@0"
#EXTINF:2.000000,
#EXT-X-BYTERANGE:100@564
segment_001.ts
#EXT-X-ENDLIST
"""


def test_media_playlists_are_those_of_renditions_of_this_video() -> None:
    lines = ["720p/playlist.m3u8", "https://other/playlist.m3u8", "../x/playlist.m3u8", "720p/playlist.m3u8"]
    text = '#EXT-X-I-FRAME-STREAM-INF:URI="720p/iframes.m3u8"\n' + "\n".join(lines)
    assert media_playlists(text) == ["720p/playlist.m3u8"]
    assert media_playlists(MASTER)


def test_cap_variants_keeps_variants_whose_short_side_fits() -> None:
    capped = cap_variants(MASTER, 480)
    assert "720p" not in capped
    assert capped.splitlines()[-2:] == [
        "#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=360x640",
        "360p/playlist.m3u8",
    ]
    assert cap_variants(MASTER, None) == MASTER


def test_cap_variants_refuses_when_nothing_is_left() -> None:
    with pytest.raises(TokenNotForThis):
        cap_variants(MASTER, 240)


def test_rename_segments_renames_every_uri_and_nothing_else() -> None:
    renamed = rename_segments(I_FRAMES, lambda name: f"https://a/{name}?s=1")
    assert renamed == I_FRAMES.replace("segment_001.ts", "https://a/segment_001.ts?s=1")


@pytest.mark.parametrize(("wanted", "cap"), [(None, None), (1080, None), (719, 480), (480, 480), (100, 0)])
def test_effective_cap_is_an_existing_height(wanted: int | None, cap: int | None) -> None:
    assert effective_cap(wanted, {"a": 720, "b": 480}) == cap


@pytest.mark.parametrize(
    ("visibility", "delivery", "default", "kind", "expected"),
    [
        ("public", None, None, "s3", "proxy"),
        ("public", None, "redirect", "s3", "redirect"),
        ("public", "signed", "redirect", "s3", "signed"),
        ("private", "redirect", None, "s3", "signed"),
        ("private", None, "proxy", "s3", "proxy"),
        ("public", "signed", "redirect", "local", "proxy"),
    ],
)
def test_delivery_is_the_videos_own_then_the_default(
    visibility: str, delivery: str | None, default: str | None, kind: str, expected: str
) -> None:
    shown = video(visibility=visibility, delivery=delivery)
    assert delivery_of(shown, default, kind) == expected  # type: ignore[arg-type]


def test_signing_window_is_the_same_for_an_hour_and_outlasts_the_video() -> None:
    assert signing_window(7200.0, 10) == signing_window(10799.0, 10) == (7200, 3600 + 6 * 3600)
    start, seconds = signing_window(10799.0, 5 * 3600)
    assert start + seconds >= 10799 + 2 * 5 * 3600


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("198.51.100.1", ["203.0.113.5"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.5"], "203.0.113.5"),
        ("10.0.0.1", ["6.6.6.6, 203.0.113.5", "10.0.0.2"], "203.0.113.5"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["garbage"], None),
        (None, ["203.0.113.5"], None),
    ],
)
def test_client_address_is_taken_from_trusted_proxies_only(
    peer: str | None, forwarded: list[str], expected: str | None
) -> None:
    assert client_address(peer, forwarded, [ip_network("10.0.0.0/8")]) == expected


def test_paths_are_logged_without_tokens_and_grants() -> None:
    assert loggable("/api/stream/1/t/aa.bb.cc/720p/playlist.m3u8") == "/api/stream/1/t/-/720p/playlist.m3u8"
    assert loggable("/api/stream/1/g/9-k-mac/720p/segment_001.ts") == "/api/stream/1/g/-/720p/segment_001.ts"
