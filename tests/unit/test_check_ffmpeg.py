from __future__ import annotations

import pytest

from services.transcoder.encode.check_ffmpeg import parse_version


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("ffmpeg version 5.1.9-0+deb12u1 Copyright (c) 2000-2026", "5.1.9-0+deb12u1"),
        ("ffmpeg version n9.0.2-17-g2a571b6068-20260930 Copyright", "n9.0.2-17-g2a571b6068-20260930"),
        ("ffprobe version 7.0.2-static https://johnvansickle.com/ffmpeg/", "7.0.2-static"),
        ("ffmpeg version N-109542-g5c2f8a2 Copyright", "N-109542-g5c2f8a2"),
        ("", "of unknown version"),
    ],
)
def test_version_is_read_from_the_first_line(line, version):
    assert parse_version(line) == version
