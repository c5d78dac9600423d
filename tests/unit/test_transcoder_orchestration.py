"""Choosing an encoder, drawing thumbnails and encoding chunks, with an FFmpeg controlled by the test."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from services.transcoder.encode import chunk
from services.transcoder.encode.chunk import encode_chunk
from services.transcoder.encode.gpu_fallback import Strategy
from services.transcoder.encode.select_encoder import Encoder, choose_encoder
from services.transcoder.encode.thumbnail import make_thumbnail
from services.transcoder.encode.time_limits import stall_seconds
from services.transcoder.ffmpeg.runner import EncodeInterrupted, FfmpegRunner, Finished
from services.transcoder.handlers.encode_chunk import _most_bytes
from services.transcoder.plan import make_plan
from services.transcoder.plan.ladder import DEFAULT_PRESETS
from shared.contracts.warnings import VideoWarning, WarningCode
from shared.errors import (
    CorruptSource,
    EncodeFailed,
    EncodeStalled,
    NotConvertible,
    PipelineError,
    SourceUnavailable,
)
from tests.unit.transcoder_values import plan
from tests.unit.transcoder_values import source as transcoder_source

WELL = Finished(0, "")
BROKEN = Finished(1, "Invalid data found when processing input")
FULL = Finished(1, "av_interleaved_write_frame(): No space left on device")


class FakeFfmpeg(FfmpegRunner):
    """Answers each run by a function of its command, which may write files, and remembers the commands."""

    def __init__(self, answer):
        super().__init__()
        object.__setattr__(self, "answer", answer)
        object.__setattr__(self, "commands", [])

    async def run_program(self, argv, *, on_line, **_options):
        self.commands.append(list(argv))
        on_line("frame=1")
        answer = self.answer(list(argv))
        if isinstance(answer, Exception):
            raise answer
        return answer


def writes(argv):
    """Write the output of a command, and succeed."""
    Path(argv[-1]).write_bytes(b"picture")
    return WELL


async def test_encoder_of_the_gpu_is_chosen_where_it_works(tmp_path):
    encoder = await choose_encoder("auto", FakeFfmpeg(lambda _: WELL))
    assert (encoder.name, encoder.runner.cuda_cache) == ("h264_nvenc", None)


async def test_compiled_kernels_are_passed_to_later_runs(tmp_path):
    runner = FakeFfmpeg(lambda _: WELL)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            "services.transcoder.encode.select_encoder.replace", lambda given, **new: (given, new)
        )
        encoder = await choose_encoder("h264_nvenc", runner, str(tmp_path))
    assert encoder.runner == (runner, {"cuda_cache": str(tmp_path)})


@pytest.mark.parametrize("ending", [Finished(1, "Cannot load libcuda.so.1"), EncodeStalled("it hangs")])
async def test_encoder_of_the_cpu_is_chosen_where_the_gpu_fails(ending):
    runner = FakeFfmpeg(lambda argv: ending if "h264_nvenc" in argv else WELL)
    assert (await choose_encoder("auto", runner)).name == "libx264"


async def test_chosen_encoder_that_does_not_work_is_reported_with_ffmpegs_message():
    with pytest.raises(EncodeFailed, match=r"ENCODER=h264_nvenc .*: Cannot load libcuda"):
        await choose_encoder("h264_nvenc", FakeFfmpeg(lambda _: Finished(1, "Cannot load libcuda.so.1")))


async def test_thumbnail_is_drawn_by_one_process(tmp_path):
    runner = FakeFfmpeg(writes)
    await make_thumbnail(plan(), "/in.mp4", tmp_path / "thumbnail.jpg", runner=runner)
    assert (tmp_path / "thumbnail.jpg").read_bytes() == b"picture"
    assert len(runner.commands) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["thumbnail.jpg"]


async def test_moments_are_drawn_one_by_one_where_one_process_fails(tmp_path):
    def answer(argv):
        return BROKEN if argv.count("-i") == 4 and "/in.mp4" in str(argv) else writes(argv)

    runner = FakeFfmpeg(answer)
    await make_thumbnail(plan(), "/in.mp4", tmp_path / "thumbnail.jpg", runner=runner)
    assert len(runner.commands) == 1 + 4 + 1
    assert (tmp_path / "thumbnail.jpg").exists()


async def test_source_without_any_picture_is_corrupt(tmp_path):
    with pytest.raises(CorruptSource, match="no picture can be decoded"):
        await make_thumbnail(plan(), "/in.mp4", tmp_path / "t.jpg", runner=FakeFfmpeg(lambda _: BROKEN))


async def test_source_is_not_at_fault_when_the_disk_is_full(tmp_path):
    with pytest.raises(EncodeInterrupted, match="No space left"):
        await make_thumbnail(plan(), "/in.mp4", tmp_path / "t.jpg", runner=FakeFfmpeg(lambda _: FULL))


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.mp4"
    path.write_bytes(b"film")
    return path


async def encode(source, tmp_path, answer, name="libx264"):
    runner = FakeFfmpeg(answer)
    try:
        return await encode_chunk(plan(), 0, source, tmp_path / "out", Encoder(name, runner))
    finally:
        encode.commands = runner.commands


async def test_chunk_is_not_begun_without_its_source(tmp_path):
    with pytest.raises(SourceUnavailable):
        await encode(tmp_path / "gone.mp4", tmp_path, lambda _: WELL)
    assert encode.commands == []


async def test_damaged_source_is_tried_tolerantly_before_it_is_given_up(tmp_path, source):
    with pytest.raises(CorruptSource, match="too damaged"):
        await encode(source, tmp_path, lambda _: BROKEN)
    assert len(encode.commands) > 1


@pytest.mark.parametrize("ending", [FULL, Finished(-9, "")])
async def test_chunk_is_left_to_a_retry_when_ffmpeg_was_interrupted(tmp_path, source, ending):
    with pytest.raises(EncodeInterrupted):
        await encode(source, tmp_path, lambda _: ending)
    assert len(encode.commands) == 1


async def test_cpu_takes_over_a_chunk_that_the_gpu_fails_to_encode(tmp_path, source):
    out_of_memory = Finished(1, "OpenEncodeSessionEx failed: out of memory")
    with pytest.raises(PipelineError):
        await encode(source, tmp_path, lambda _: out_of_memory, "h264_nvenc")
    assert any("h264_nvenc" in argv for argv in encode.commands)
    assert any("libx264" in argv for argv in encode.commands)


async def test_missing_segments_are_noticed_although_ffmpeg_succeeded(tmp_path, source):
    with pytest.raises(PipelineError):
        await encode(source, tmp_path, lambda _: WELL)


async def test_first_encode_is_kept_when_the_careful_one_stalls(tmp_path, source, monkeypatch):
    differing = VideoWarning(code=WarningCode.AUDIO_DIFFERS, message="the sound differs")
    tried = []

    async def attempt(job, way):
        tried.append(way.audio_from_file)
        for rung in job.plan.rungs:
            Path(job.outdir, rung.name).mkdir(parents=True)
        written = Path(job.outdir, "720p", "segment_001.ts")
        written.write_text("careful" if way.audio_from_file else "first")
        if way.audio_from_file:
            raise EncodeStalled("it hangs")
        return chunk.EncodedChunk((), {}, "libx264")

    async def check_chunk(_job, _depth):
        return (differing,)

    monkeypatch.setattr(chunk, "_attempt", attempt)
    monkeypatch.setattr(chunk, "check_chunk", check_chunk)
    found = await encode_chunk(plan(), 0, source, tmp_path / "out", Encoder("libx264"), check="quick")
    assert (tried, found.is_checked, found.differences) == ([False, True], True, (differing,))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["360p", "720p"]
    assert (tmp_path / "out" / "720p" / "segment_001.ts").read_text() == "first"


async def test_difference_is_reported_when_the_careful_encode_is_unchecked(tmp_path, source, monkeypatch):
    differing = VideoWarning(code=WarningCode.AUDIO_DIFFERS, message="the sound differs")
    answers = iter([(differing,), None])

    async def attempt(job, _way):
        for rung in job.plan.rungs:
            Path(job.outdir, rung.name).mkdir(parents=True)
        return chunk.EncodedChunk((), {}, "libx264")

    async def check_chunk(_job, _depth):
        return next(answers)

    monkeypatch.setattr(chunk, "_attempt", attempt)
    monkeypatch.setattr(chunk, "check_chunk", check_chunk)
    found = await encode_chunk(plan(), 0, source, tmp_path / "out", Encoder("libx264"), check="quick")
    assert found.differences == (differing,)


async def test_command_that_is_too_long_for_the_system_is_no_reason_to_try_again():
    with pytest.raises(NotConvertible, match="longer than the system allows"):
        await FfmpegRunner().run_program(["true", "x" * 200_000], on_line=print, timeout_seconds=10)


def test_chunk_of_an_older_plan_that_is_read_from_the_beginning_may_take_its_time():
    given = plan()
    later = replace(given.chunks[1], video_seek_seconds=None, run_in_seconds=0.0)
    assert stall_seconds(given, later) == 180 + 60 * float(later.first_frame / given.rate)
    assert stall_seconds(given, given.chunks[1]) == 180 + 60 * given.chunks[1].run_in_seconds


async def test_converted_sound_is_removed_when_the_encode_stalls(tmp_path, source):
    def answer(argv):
        return writes(argv) if argv[-1].endswith("sound.nut") else EncodeStalled("it hangs")

    job = chunk._Job(
        plan(), plan().chunks[0], str(source), str(tmp_path), Encoder("libx264", FakeFfmpeg(answer)), print
    )
    with pytest.raises(EncodeStalled):
        await chunk._run(job, Strategy("libx264", audio_from_file=True))
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


async def test_long_sources_are_planned_outside_the_event_loop(tmp_path, source, monkeypatch):
    threads = []

    async def scan_source(*_given):
        return transcoder_source()

    def build_plan(*given):
        threads.append(threading.current_thread())
        return plan()

    monkeypatch.setattr(make_plan, "scan_source", scan_source)
    monkeypatch.setattr(make_plan, "build_plan", build_plan)
    await make_plan.make_plan(source, DEFAULT_PRESETS)
    assert threads
    assert threading.main_thread() not in threads


def test_space_for_converted_sound_is_reserved():
    given = plan()
    silent = replace(given, audio=None)
    assert _most_bytes(given, 1) - _most_bytes(silent, 1) > 1.1 * 8 * 48_000 * given.seconds_in(
        given.chunks[1]
    )
