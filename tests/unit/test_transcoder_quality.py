"""Choosing rate factors by samples: which samples, which rate factor, which renditions, and the commands."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.transcoder.codecs.rate_control import aimed_vmaf, rate_factor
from services.transcoder.ffmpeg.runner import FfmpegRunner, Finished
from services.transcoder.quality.adapt_plan import Found, adapt_plan
from services.transcoder.quality.choose_crf import (
    MAX_LOWER,
    MAX_LOWER_THAN_ABOVE,
    STEP,
    Trial,
    choose,
    choose_all,
    expect,
    without_superfluous,
)
from services.transcoder.quality.per_title import PerTitleSearch
from services.transcoder.quality.samples import MIN_SAMPLES, SAMPLE_SECONDS, choose_samples, trial_plan
from services.transcoder.quality.vmaf import (
    SSIM,
    SSIM_TO_VMAF,
    VMAF_ABOVE_METRIC,
    Job,
    Judge,
    cpu_seconds,
    estimated_vmaf,
    judge_argv,
    log_path,
    read_scores,
)
from shared.contracts.source_report import SourceReport
from shared.errors import EncodeStalled
from tests.unit.transcoder_values import FIRST as FIRST_PTS
from tests.unit.transcoder_values import FRAME, VIDEO, source
from tests.unit.transcoder_values import plan as make_plan

REPORT = SourceReport(
    container="mov", bytes=1, declared_seconds=600.0, duration_seconds=600.0, tracks=(), decisions=()
)
BENCH = "bench: utime=1.500s stime=0.250s rtime=2.000s"


def long_plan(seconds=1200):
    """Return the plan of a video with chunks of a minute."""
    frames = round(seconds * 30000 / 1001)
    pts = [FIRST_PTS + FRAME * number for number in range(frames)]
    video = replace(VIDEO, frames=frames)
    planned = make_plan(source(video=video, audio=None, shown_pts=pts, key_pts=pts[::60]))
    return replace(planned, report=REPORT)


def trials(mean, higher_mean, crf=22.0, bps=(4e6, 2e6), spread=2.0):
    """Return two trials whose worst tenth of pictures is `spread` below the mean."""
    scores = [[value - spread] * 2 + [value + spread / 9] * 18 for value in (mean, higher_mean)]
    return Trial(crf, bps[0], scores[0]), Trial(crf + STEP, bps[1], scores[1])


# Which rate factor


def test_rate_factor_meets_the_target_between_the_trials():
    chosen = choose(*trials(97.0, 91.0), 93.0)
    assert chosen.crf == 26.0
    assert chosen.vmaf_mean == pytest.approx(93.0)
    assert 2e6 < chosen.bps < 4e6


def test_rate_factor_falls_for_a_hard_video_but_not_below_a_limit():
    assert choose(*trials(92.0, 86.0), 93.0).crf == 21.0
    assert choose(*trials(80.0, 74.0), 93.0).crf == 22.0 - MAX_LOWER


def test_rate_factor_rises_no_higher_than_what_was_measured():
    assert choose(*trials(99.9, 99.5), 93.0).crf == 22.0 + STEP


def test_the_worst_pictures_count_as_well():
    assert choose(*trials(97.0, 91.0, spread=9.0), 93.0).crf < choose(*trials(97.0, 91.0), 93.0).crf


def test_a_smaller_rendition_stays_smaller_than_the_next_larger():
    easy, hard = trials(99.0, 98.0), trials(91.0, 85.0, crf=21.0)
    above, below = choose_all([easy, hard], [93.0, 93.0])
    assert above.crf == 22.0 + STEP
    assert below.crf == above.crf - MAX_LOWER_THAN_ABOVE


@given(st.floats(40, 100), st.floats(0, 20), st.floats(60, 99), st.floats(0, 30))
def test_rate_factor_is_always_within_its_limits_and_a_multiple_of_one_half(mean, falls, target, spread):
    chosen = choose(*trials(mean, mean - falls, spread=spread), target)
    assert 22.0 - MAX_LOWER <= chosen.crf <= 22.0 + STEP
    assert chosen.crf * 2 == int(chosen.crf * 2)
    assert chosen.vmaf_mean <= 100.0


def test_expectation_at_a_trial_equals_that_trial():
    usual, higher = trials(97.0, 91.0)
    assert expect(usual, higher, usual.crf).bps == pytest.approx(usual.bps)
    assert expect(usual, higher, higher.crf).vmaf_p5 == pytest.approx(higher.p5)


@pytest.mark.parametrize("short_side", [360, 480, 720, 1080])
@pytest.mark.parametrize("vmaf", [None, 88.0, 95.0])
def test_target_quality_is_that_of_the_preset(short_side, vmaf):
    assert aimed_vmaf(short_side, rate_factor(short_side, vmaf)) == pytest.approx(vmaf or 93.0)


def test_renditions_without_detail_of_their_own_are_superfluous_but_never_the_smallest():
    assert without_superfluous(["1080p", "720p", "480p"], [99.0, 91.0]) == ["720p", "480p"]
    assert without_superfluous(["1080p", "720p"], [99.5]) == ["720p"]
    assert without_superfluous(["360p"], []) == ["360p"]


# Which samples


def test_samples_are_spread_over_the_video_without_its_first_chunk():
    planned = long_plan()
    samples = choose_samples(planned)
    starts = [float(sample.first_frame / planned.rate) for sample in samples]
    assert len(samples) >= MIN_SAMPLES
    assert starts[0] > 0
    assert starts[-1] > planned.duration_seconds / 2
    assert all(planned.seconds_in(sample) == pytest.approx(SAMPLE_SECONDS, abs=0.05) for sample in samples)
    assert all(planned.starts_in(sample) == (sample.first_frame,) for sample in samples)


def test_short_videos_have_no_samples():
    assert choose_samples(long_plan(60)) == ()


def test_samples_that_need_long_decoding_first_are_left_out():
    planned = long_plan()
    slow = replace(planned, chunks=tuple(replace(chunk, run_in_seconds=60.0) for chunk in planned.chunks))
    assert choose_samples(slow) == ()


def test_trials_have_no_sound_and_only_rungs_that_aim_at_a_quality():
    planned = make_plan()
    mixed = replace(planned, rungs=(replace(planned.rungs[0], crf=None), planned.rungs[1]))
    trial = trial_plan(mixed, 6.0)
    assert trial.audio is None
    assert [(rung.name, rung.crf) for rung in trial.rungs] == [("360p", 27.0)]


# Commands and results


def job(folders=("/tmp/it's: one", "/tmp/b")):
    planned = long_plan()
    return Job(trial_plan(planned, 0.0), choose_samples(planned)[0], "/work/a.mov", folders)


def test_every_encoded_file_is_compared_in_its_own_size():
    argv = judge_argv(job(), Judge("/opt/ffmpeg"))
    graph = argv[argv.index("-filter_complex") + 1]
    assert argv[0] == "/opt/ffmpeg"
    assert argv.count("-i") == 1 + 4  # the source, two rungs in two trials
    assert graph.count("libvmaf=") == 4
    assert "[e0]" not in graph
    assert r"it\\\'s\\: one/0.json" in graph


def test_sizes_are_compared_where_renditions_may_be_left_out():
    argv = judge_argv(job(), Judge("ffmpeg"), enlarged_in="/tmp/b")
    graph = argv[argv.index("-filter_complex") + 1]
    assert graph.count("libvmaf=") == 5
    assert "/tmp/b/enlarged-0.json" in graph


def test_every_label_of_the_graph_is_written_and_read_once():
    argv = judge_argv(job(), Judge("ffmpeg"), enlarged_in="/tmp/b")
    graph = argv[argv.index("-filter_complex") + 1]
    labels = re.findall(r"\[([a-z]+[0-9][a-z0-9]*)\]", graph)
    mapped = [argv[place + 1] for place, word in enumerate(argv) if word == "-map"]
    used = labels + [label.strip("[]") for label in mapped]
    assert {used.count(label) for label in used} == {2}


def test_scores_are_those_of_the_judged_pictures(tmp_path):
    log = tmp_path / "0.json"
    log.write_text(json.dumps({"frames": [{"metrics": {"vmaf": 91.5}}, {"metrics": {"vmaf": 93.0}}]}))
    assert read_scores(str(log)) == [91.5, 93.0]


@pytest.mark.parametrize("text", ["", "{}", '{"frames": []}', '{"frames": [{"metrics": {}}]}'])
def test_a_log_without_scores_is_an_error(tmp_path, text):
    log = tmp_path / "0.json"
    log.write_text(text)
    with pytest.raises(ValueError):
        read_scores(str(log))


def test_an_ffmpeg_without_vmaf_measures_ssim_of_the_same_pictures():
    argv = judge_argv(job(), Judge("ffmpeg", SSIM))
    graph = argv[argv.index("-filter_complex") + 1]
    assert "libvmaf" not in graph
    assert graph.count("ssim=stats_file=") == 4
    assert graph.count("select='not(mod(n,10))'") == 8


def test_vmaf_is_estimated_from_ssim(tmp_path):
    log = tmp_path / "0.json"
    log.write_text("n:1 Y:0.990000 U:0.99 V:0.99 All:0.99 (20.0)\nn:2 Y:1.000000 U:1 V:1 All:1 (inf)\n")
    best = SSIM_TO_VMAF[-1][1] - VMAF_ABOVE_METRIC
    assert read_scores(str(log), SSIM) == [pytest.approx(94.0 - VMAF_ABOVE_METRIC), best]
    log.write_text("")
    with pytest.raises(ValueError, match="no picture"):
        read_scores(str(log), SSIM)


@given(st.floats(0, 1), st.floats(0, 1))
def test_more_ssim_never_means_less_vmaf(one, other):
    low, high = sorted((one, other))
    assert 0 <= estimated_vmaf(low) <= estimated_vmaf(high) <= 100


def test_cpu_time_is_read_from_ffmpegs_output():
    assert cpu_seconds(f"frame=1\n{BENCH}") == 1.75
    assert cpu_seconds("") == 0.0


# The plan


def test_plan_gets_rate_factors_and_says_what_they_save():
    planned = long_plan()
    pairs = [trials(97.0, 91.0), trials(93.0, 87.0, crf=21.0, bps=(1e6, 5e5))]
    adapted = adapt_plan(planned, Found(pairs, None, samples=5, cpu_seconds=12.34))
    assert [rung.name for rung in adapted.rungs] == ["720p", "360p"]
    assert adapted.rungs[0].crf > planned.rungs[0].crf
    quality = adapted.report.quality
    assert quality.saved_bytes > 0
    assert (quality.samples, quality.cpu_seconds, quality.left_out) == (5, 12.3, ())
    assert [each.rendition for each in quality.renditions] == ["720p", "360p"]
    assert adapted.presentation().qualities["720p"].vmaf_mean == quality.renditions[0].vmaf_mean


def test_renditions_that_add_nothing_are_left_out_and_counted_as_saved():
    planned = long_plan()
    pairs = [trials(91.0, 85.0), trials(91.0, 85.0, crf=21.0, bps=(1e6, 5e5))]
    adapted = adapt_plan(planned, Found(pairs, [[99.0, 98.5]], samples=5, cpu_seconds=1.0))
    assert [rung.name for rung in adapted.rungs] == ["360p"]
    assert adapted.report.quality.left_out == ("720p",)
    assert adapted.report.quality.saved_bytes == pytest.approx(4e6 * planned.duration_seconds / 8, rel=0.01)


# The search


class Judging(FfmpegRunner):
    """Writes what the commands of a search would, with scores by trial; `fails` ends every command badly."""

    def __init__(self, fails=None):
        super().__init__()
        object.__setattr__(self, "fails", fails)
        object.__setattr__(self, "programs", [])

    async def run_program(self, argv, *, access, **_options):
        self.programs.append(argv[0])
        if self.fails:
            raise self.fails
        (folder,) = access.writes
        for trial in (0, 1) if argv[0] == "judge" else ():
            for number in (0, 1):
                score = {"frames": [{"metrics": {"vmaf": 98.0 - 4.0 * trial}}]}
                Path(log_path(f"{folder}/{trial}", number)).write_text(json.dumps(score))
        for target in re.findall(r"\](/[^|\[]+?)/segment_%03d\.ts", " ".join(argv)):
            first = re.search(r"segment_start_number=(\d+)", " ".join(argv))[1]
            Path(target, f"segment_{int(first):03d}.ts").write_bytes(b"x" * 1000)
        return Finished(0, BENCH)


async def test_search_encodes_each_sample_twice_and_judges_it_once():
    runner, planned = Judging(), long_plan()
    adapted = await PerTitleSearch("quality", Judge("judge"), "libx264", runner)(planned, "/work/a.mov")
    samples = len(choose_samples(planned))
    assert runner.programs == ["ffmpeg", "ffmpeg", "judge"] * samples
    assert [rung.crf for rung in adapted.rungs] == [28.0, 27.0]
    assert adapted.report.quality.cpu_seconds == pytest.approx(1.75 * 3 * samples, abs=0.1)


@pytest.mark.parametrize("error", [EncodeStalled("hangs"), OSError("no space")])
async def test_a_search_that_fails_changes_nothing(error):
    planned = long_plan()
    assert await PerTitleSearch("ladder", "judge", "libx264", Judging(error))(planned, "/a.mov") is planned


async def test_videos_that_are_too_short_or_aim_at_a_rate_are_not_searched():
    runner = Judging()
    search = PerTitleSearch("quality", Judge("judge"), "libx264", runner)
    short, rated = long_plan(30), long_plan()
    rated = replace(rated, rungs=tuple(replace(rung, crf=None) for rung in rated.rungs))
    assert await search(short, "/a.mov") is short
    assert await search(rated, "/a.mov") is rated
    assert runner.programs == []
