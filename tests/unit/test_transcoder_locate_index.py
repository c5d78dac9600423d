"""Where files have their index, by their headers."""

from __future__ import annotations

from io import BytesIO

import pytest

from services.transcoder.probe import locate_index
from services.transcoder.probe.locate_index import read_index


def box(kind, content=b"", *, length=None):
    return (8 + len(content) if length is None else length).to_bytes(4, "big") + kind + content


def index_of(content, container="mov"):
    return read_index(BytesIO(content), len(content), container)


FTYP, MOOV, MDAT = box(b"ftyp", bytes(8)), box(b"moov", bytes(92)), box(b"mdat", bytes(992))


def test_index_of_mp4_is_everything_except_its_media_data():
    assert index_of(FTYP + MDAT + MOOV).spans == ((0, 32), (1016, 1116))
    assert index_of(FTYP + MOOV + MDAT).spans == ((0, 132),)


def test_media_data_may_be_large_or_last_to_the_end():
    large = box(b"mdat", (1016).to_bytes(8, "big") + bytes(1000), length=1)
    assert index_of(FTYP + large + MOOV).spans == ((0, 32), (1032, 1132))
    assert index_of(FTYP + MOOV + box(b"mdat", bytes(500), length=0)).spans == ((0, 132),)


def test_fragments_belong_to_the_index_unless_there_are_too_many(monkeypatch):
    content = FTYP + MOOV + (box(b"moof", bytes(20)) + MDAT) * 3
    assert index_of(content).spans == ((0, 160), (1144, 1188), (2172, 2216))
    monkeypatch.setattr(locate_index, "MAX_INDEX_SPANS", 2)
    assert index_of(content) is None


@pytest.mark.parametrize("content", [FTYP + MDAT[:-1], FTYP + box(b"mdat", length=4), FTYP + b"\0\0\0"])
def test_mp4_that_is_cut_off_or_broken_has_no_index(content):
    assert index_of(content) is None


def element(kind, content=b"", *, size=None):
    length = size or (0x08 << 56 | len(content)).to_bytes(8, "big").replace(b"\x08", b"\x01", 1)
    return bytes.fromhex(kind) + length + content


def number(value):
    return value.to_bytes(4, "big")


def matroska(cued, *, clusters=3, last=b""):
    head = element("1549a966", bytes(10)) + element("1654ae6b", bytes(10))
    places = [len(head) + each * 112 for each in range(clusters)]
    body = head + b"".join(element("1f43b675", bytes(100)) for _ in range(clusters)) + last
    points = b"".join(
        element("bb", element("b3", number(0)) + element("b7", element("f1", number(places[each]))))
        for each in cued
    )
    body += element("1c53bb6b", points) if cued else b""
    start = element("1a45dfa3", bytes(20)) + bytes.fromhex("18538067") + (1 << 56 | len(body)).to_bytes(8)
    return start + body, [len(start) + place for place in places], len(start)


def test_index_of_matroska_is_everything_except_its_clusters_and_leads_to_cued_clusters():
    content, clusters, begin = matroska([0, 2])
    found = index_of(content, "matroska")
    assert found.starts == (clusters[0], clusters[2])
    assert found.spans == ((0, clusters[0]), (clusters[2] + 112, len(content)))
    assert begin < clusters[0]


def test_matroska_without_cues_or_with_elements_of_unknown_size_has_no_index():
    assert index_of(matroska([])[0], "matroska") is None
    unknown = element("1f43b675", bytes(30), size=b"\x01" + b"\xff" * 7)
    assert index_of(matroska([0], last=unknown)[0], "matroska") is None
    assert index_of(matroska([0, 1])[0][:-5], "matroska") is None


def test_transport_streams_need_no_index_and_others_have_none():
    assert index_of(b"G" * 188, "mpegts").spans == ()
    assert index_of(b"RIFF", "avi") is None
