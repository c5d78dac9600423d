"""Sources in platform events, and ffprobe's output for untrusted files."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING
from uuid import uuid4

from hypothesis import strategies as st

from services.transcoder.probe.discontinuities import correct, find_falls, wrong_times
from services.transcoder.probe.packets import PacketReader
from services.transcoder.probe.streams import read_aspect, read_fraction, read_orientation
from services.transcoder.sources.fetch import Sources, shown
from services.transcoder.sources.https import HttpsSource
from shared.errors import SourceUnavailable
from shared.workspace.disk_budget import DiskBudget
from shared.workspace.layout import WorkDir
from tests.fuzz.budget import fuzz

if TYPE_CHECKING:
    from pathlib import Path

SCHEMES = st.sampled_from(
    ["file:", "file://", "file:///", "s3://", "https://", "HTTPS://", "ftp://", "", "//"]
)
PLACES = st.sampled_from(
    [
        "/etc/passwd",
        "..",
        "%2e%2e",
        "a@b",
        "[::1",
        "[::1]",
        "bucket",
        ":99999",
        "%00",
        "//",
        "?",
        "#",
        "\\",
        "☃",
    ]
)
URIS = st.builds("{}{}".format, SCHEMES, st.lists(PLACES | st.text(max_size=6), max_size=6).map("/".join))


def test_a_source_is_a_path_within_the_volume_or_refused(tmp_path: Path) -> None:
    openers = {"https": HttpsSource().open, "s3": HttpsSource().open}
    sources = Sources(WorkDir(tmp_path), DiskBudget(tmp_path, 0), openers, max_bytes=10)

    def check(uri: str) -> None:
        try:
            path = sources.path(uuid4(), uri)
        except SourceUnavailable as error:
            assert error.message
            return
        assert path.resolve().is_relative_to(tmp_path)

    fuzz(URIS | st.text(max_size=40), check)


def test_an_https_source_is_a_url_or_refused() -> None:
    source = HttpsSource()

    def check(uri: str) -> None:
        try:
            assert source._allowed(uri).scheme == "https"
        except SourceUnavailable as error:
            assert error.message

    fuzz(URIS, check)


def test_a_source_is_shown_without_its_credentials() -> None:
    def check(parts: tuple[str, str, str]) -> None:
        scheme, host, path = parts
        uri = f"{scheme}://user:hunter2hunter2@{host}/{path}?sig=hunter2hunter2#hunter2hunter2"
        assert "hunter2hunter2" not in shown(uri), uri

    words = st.text(st.characters(exclude_characters="/?#@"), max_size=10)
    fuzz(st.tuples(st.sampled_from(["https", "s3", "ftp"]), words, words), check)


TICKS = st.integers(-(2**63), 2**63 - 1).map(str) | st.just("N/A")
LINES = st.builds(
    "{},{},{},{},{},{}".format,
    st.integers(0, 3),
    TICKS,
    TICKS,
    TICKS,
    TICKS,
    st.sampled_from(["K__", "___", "KD_", "_C"]),
)


TIME_BASE = Fraction(1, 90000)


def _check_packets(lines: list[str]) -> None:
    reader = PacketReader()
    for line in lines:
        reader.take(line)
    times = reader.of(0).pts
    wrong = wrong_times(times, TIME_BASE)
    assert set(wrong) <= set(range(len(times)))
    assert [time for time, _ in correct(times, wrong)] == sorted(times[index] for index in wrong)
    assert set(find_falls(times, wrong, TIME_BASE)) <= set(range(len(times)))


def test_packets_of_any_time_are_read() -> None:
    fuzz(st.lists(LINES | st.text(max_size=20), max_size=20), _check_packets)


def _check_stream(words: tuple[str, str]) -> None:
    assert isinstance(read_fraction(words[0]), Fraction)
    assert Fraction(1, 20) <= read_aspect({"sample_aspect_ratio": words[0]}) <= 20
    assert isinstance(read_orientation({"side_data_list": [{"displaymatrix": words[1]}]}), tuple)


def test_fractions_and_matrices_are_read_or_ignored() -> None:
    ratios = st.builds("{}{}{}".format, st.integers(), st.sampled_from("/:"), st.integers())
    matrices = st.builds("00000000: {} {} {}\n00000001: {} {} {}".format, *[st.integers()] * 6)
    fuzz(st.tuples(ratios | st.text(max_size=9), matrices | st.text(max_size=20)), _check_stream)
