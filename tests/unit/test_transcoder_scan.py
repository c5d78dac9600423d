"""Scanning and planning sources from recorded output of ffprobe."""

from __future__ import annotations

from fractions import Fraction

import pytest

from services.transcoder.ffmpeg.input import Limits
from services.transcoder.ffmpeg.runner import Finished
from services.transcoder.plan.ladder import DEFAULT_PRESETS
from services.transcoder.plan.make_plan import make_plan
from services.transcoder.probe.scan import scan_source
from shared.errors import CorruptSource, LimitsExceeded, NotAVideo, SourceUnavailable
from tests.recorded import RecordedFfmpeg

# A file that lacks nothing, as far as its boxes say.
MP4 = b"\x00\x00\x00\x10ftypisom\x00\x00\x02\x00" + b"\x00\x00\x00\x08mdat"


@pytest.fixture
def recorded(tmp_path):
    def make(name="film.mp4"):
        path = tmp_path / name
        path.write_bytes(MP4)
        return RecordedFfmpeg(mode="off", name=name, path=str(path))

    return make


async def scan(runner, **limits):
    return await scan_source(runner.path, Limits(**limits), runner)


async def test_source_is_as_ffprobe_describes_it(recorded):
    source = await scan(recorded())
    assert (source.container, source.seeking) == ("mov", "exact")
    video, audio = source.video, source.audio
    assert (video.codec, video.width, video.height, video.frames) == ("h264", 96, 64, 25)
    assert (video.rate, video.is_vfr, video.interlaced) == (25, False, False)
    assert len(source.shown_pts) == 25
    assert source.shown_pts[0] in source.key_pts
    assert (audio.codec, audio.sample_rate, audio.channels) == ("aac", 44_100, 1)
    assert audio.lattice.step == 1024


async def test_mixed_frame_sizes_are_counted_in_samples(recorded):
    source = await scan(recorded("vorbis.mkv"))
    assert (source.container, source.audio.codec) == ("matroska", "vorbis")
    assert source.audio.lattice is None
    assert source.sound_map is not None


async def test_plan_is_made_from_a_scan(recorded, tmp_path):
    runner = recorded()
    plan = await make_plan(runner.path, DEFAULT_PRESETS, segment_seconds=1, runner=runner)
    assert (plan.total_frames, plan.rate, plan.source_bytes) == (25, Fraction(25), len(MP4))
    assert [(rung.width, rung.height) for rung in plan.rungs] == [(96, 64)]
    assert plan.report.to_json()["container"]


async def test_video_that_lasts_too_long_is_refused(recorded):
    runner = recorded()
    with pytest.raises(LimitsExceeded, match="lasts 1 s; at most"):
        await make_plan(runner.path, DEFAULT_PRESETS, limits=Limits(duration_seconds=0.5), runner=runner)


async def test_picture_that_is_too_large_is_refused(recorded):
    with pytest.raises(LimitsExceeded, match="larger than"):
        await scan(recorded(), pixels=96 * 64 - 1)


async def test_empty_or_missing_file_is_reported(recorded, tmp_path):
    runner = recorded()
    (tmp_path / "film.mp4").write_bytes(b"")
    with pytest.raises(CorruptSource, match="the file is empty"):
        await scan(runner)
    (tmp_path / "film.mp4").unlink()
    with pytest.raises(SourceUnavailable, match="cannot be read"):
        await scan(runner)


class Answering(RecordedFfmpeg):
    """Overrides the output of runs whose arguments contain a text, and records calls."""

    async def run_program(self, argv, *, on_line, **options):
        asked.append(" ".join(argv))
        for text, lines in answers.items():
            if text in asked[-1]:
                for line in lines:
                    on_line(line)
                return Finished(int(not lines), "" if lines else "Invalid data found when processing input")
        return await super().run_program(argv, on_line=on_line, **options)


answers, asked = {}, []


@pytest.fixture
def answering(recorded):
    def make(**given):
        answers.update(given)
        runner = recorded()
        return Answering(mode="off", name=runner.name, path=runner.path)

    yield make
    answers.clear()
    asked.clear()


async def test_video_without_a_picture_that_can_be_decoded_is_corrupt(answering):
    with pytest.raises(CorruptSource, match="no picture can be decoded"):
        await scan(answering(**{"-show_frames": ['{"frames": []}']}))
    reads = [each.split("-read_intervals ")[1].split()[0] for each in asked if "-show_frames" in each]
    assert reads == ["%+#24", "%+#400"], "more pictures are tried before it is given up"


async def test_file_that_ffprobe_cannot_open_is_no_video(answering):
    with pytest.raises((NotAVideo, CorruptSource)):
        await scan(answering(**{"-show_streams": []}))


async def test_truncated_file_is_read_track_by_track(answering, tmp_path):
    picture = [f"0,{512 * place},{512 * place},512,9,{340 + place},K_" for place in range(20)]
    sound = [f"1,{1024 * place},{1024 * place},1024,9,{48 + place},K_" for place in range(5)]
    later = {"-show_packets -show_frames": ["{}"]}
    runner = answering(**{"streams 0 -show_entries": picture, "streams 1 -show_entries": sound, **later})
    (tmp_path / "film.mp4").write_bytes(MP4[:-8] + b"\x00\x01\x00\x00mdat")
    source = await scan(runner)
    assert source.video.frames == 20, "each track is as long as what is left of it"
    assert source.audio.end_seconds < Fraction(1, 2)
    assert "source_incomplete" in {warning.code for warning in source.warnings}
