"""The GPU's path on a machine without one: options against ffmpeg's own lists, failures and joins simulated.

A stand-in for ffmpeg prints the real one's messages where a GPU refuses, or encodes with libx264 in NVENC's
place, with NVENC's setting of no B-frames as references.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from services.transcoder.codecs.h264_levels import lowest_level
from services.transcoder.command import video
from services.transcoder.command.chunk import HARDWARE, chunk_argv
from services.transcoder.encode.chunk import encode_chunk
from services.transcoder.encode.select_encoder import Encoder, choose_encoder, find_problem, trial_argv
from services.transcoder.ffmpeg.runner import FfmpegRunner
from services.transcoder.plan.ladder import Preset
from services.transcoder.plan.make_plan import make_plan
from services.transcoder.quality.find_vmaf_ffmpeg import find_judge
from services.transcoder.quality.per_title import PerTitleSearch
from services.transcoder.selftest.calibrate import CRFS
from services.transcoder.selftest.run import calibration, check_all, make_bench
from shared.errors import CorruptSource
from shared.telemetry.metrics import ENCODER_FALLBACKS
from tests.media import Clip, make_clip, read_numbers
from tests.unit.transcoder_values import plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OFF = FfmpegRunner("off")
NVENC = Encoder("h264_nvenc", OFF)
PRESETS = (Preset("96p", 96, 300_000, 128_000), Preset("64p", 64, 150_000, 128_000))
TAGGED = Clip(frames=50, options=("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"))
OPENING = "Error initializing output stream 0:0 -- Error while opening encoder for output stream #0:0"
NO_SESSION = f"[h264_nvenc @ 0x5581] OpenEncodeSessionEx failed: out of memory (10): (no details)\n{OPENING}"
NO_MEMORY = "cu->cuCtxCreate() failed -> CUDA_ERROR_OUT_OF_MEMORY: out of memory\n: Cannot allocate memory"
NO_DRIVER = f"[h264_nvenc @ 0x5581] Cannot load libcuda.so.1\n{OPENING}"
NO_DECODER = "[h264 @ 0x5581] Failed setup for format cuda: hwaccel initialisation returned error."

STAND_IN_STEPS = 4.0  # from x264's rate factor to the stand-in's CQ
STAND_IN = """#!{python}
import fcntl, os, re, signal, sys

REAL, FOLDER, SESSIONS, SAY, SAY_HARDWARE, CRASH = {parts!r}
argv = sys.argv[1:]


def refuse(words):
    sys.stderr.write(words + "\\n")
    sys.exit(1)


def take_session():
    for number in range(SESSIONS):
        file = os.open(os.path.join(FOLDER, f"session-{{number}}"), os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        os.set_inheritable(file, True)
        return
    refuse({no_session!r})


def in_memory(argv):
    pairs = {{"-hwaccel", "-hwaccel_output_format", "-tune", "-rc", "-spatial-aq", "-no-scenecut"}}
    out, skip = [], False
    for name, value in zip(argv, [*argv[1:], ""]):
        if skip:
            skip = False
        elif name in pairs:
            skip = True
        elif name == "-preset":
            out += ["-preset", "veryfast"]  # a faster one leaves out what makes it High profile
            skip = True
        elif name.startswith("-cq"):
            out += [name.replace("cq", "crf"), str(float(value) - {steps})]
            skip = True
        elif name.startswith("-b:v") and value == "0":
            skip = True
        elif name == "-b_ref_mode":
            out += ["-x264-params", "b-pyramid=none:scenecut=0"]
            skip = True
        else:
            name = name.replace("h264_nvenc", "libx264").replace(",hwupload_cuda", "")
            name = name.replace("scale_cuda", "scale").replace(":interp_algo=bilinear", "")
            name = name.replace(":format=yuv420p", ",format=yuv420p")
            out.append(name)
    return out


if "h264_nvenc" in argv:
    with open(os.path.join(FOLDER, "asked"), "a") as file:
        file.write("hardware\\n" if "-hwaccel" in argv else "uploaded\\n")
    if CRASH:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    if SAY_HARDWARE and "-hwaccel" in argv:
        refuse(SAY_HARDWARE)
    if SAY:
        refuse(SAY)
    take_session()
    argv = in_memory(argv)
os.execv(REAL, [REAL, *argv])
"""


@dataclass(frozen=True)
class Gpu:
    """A simulated GPU; `asked` records how its encoder was called."""

    folder: Path

    @property
    def asked(self) -> list[str]:
        return (self.folder / "asked").read_text().split()


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Gpu]:
    """Return a function that puts a stand-in for ffmpeg first on PATH.

    A script runs an interpreter, and keeps its sessions in a folder: the sandbox permits neither (OFF).
    """

    def install(*, sessions: int = 64, say: str = "", say_hardware: str = "", crash: bool = False) -> Gpu:
        folder = tmp_path / "gpu"
        folder.mkdir()
        parts = (shutil.which("ffmpeg"), str(folder), sessions, say, say_hardware, crash)
        program = folder / "ffmpeg"
        program.write_text(
            STAND_IN.format(python=sys.executable, parts=parts, no_session=NO_SESSION, steps=STAND_IN_STEPS)
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        return Gpu(folder)

    return install


def fallbacks(reason: str) -> float:
    return ENCODER_FALLBACKS.labels(reason)._value.get()


async def encode_first(tmp_path: Path):
    """Encode the first chunk of a numbered clip with NVENC, and check what the pictures show."""
    original = make_clip(tmp_path / "a.mp4", TAGGED)
    given = await make_plan(original, PRESETS, segment_seconds=1, chunk_seconds=2)
    encoded = await encode_chunk(given, 0, original, tmp_path / "out", NVENC)
    top = given.rungs[0]
    assert read_numbers(encoded.segments[0].path, top.width, top.height) == list(range(25))
    return encoded


@pytest.mark.parametrize(
    ("words", "reason"), [(NO_SESSION, "session_limit"), (NO_MEMORY, "memory"), (NO_DRIVER, "no_driver")]
)
async def test_a_chunk_is_encoded_on_the_cpu_at_once_when_the_gpu_refuses(tmp_path, gpu, words, reason):
    card, before = gpu(say=words), fallbacks(reason)
    encoded = await encode_first(tmp_path)
    assert encoded.encoder == "libx264"
    assert len(encoded.notes) == 1
    assert encoded.notes[0].startswith("parts of the video were encoded on the CPU: the ")
    assert not encoded.is_repaired
    assert not encoded.decoded_on_gpu
    assert len(card.asked) == 1
    assert fallbacks(reason) == before + 1


async def test_a_chunk_is_encoded_on_the_cpu_when_the_gpus_encoder_crashes(tmp_path, gpu):
    gpu(crash=True)
    encoded = await encode_first(tmp_path)
    assert encoded.encoder == "libx264"
    assert encoded.notes == ("parts of the video were encoded on the CPU: the GPU's encoder crashed",)


async def test_decoding_in_memory_is_tried_first_when_the_gpu_cannot_decode(tmp_path, gpu):
    card, before = gpu(say_hardware=NO_DECODER), fallbacks("decode")
    encoded = await encode_first(tmp_path)
    assert (encoded.encoder, encoded.decoded_on_gpu, encoded.notes) == ("h264_nvenc", False, ())
    assert card.asked == ["hardware", "uploaded"]
    assert fallbacks("decode") == before + 1


async def test_the_cpu_comes_last_when_the_gpu_can_neither_decode_nor_encode(tmp_path, gpu):
    card = gpu(say_hardware=NO_DECODER, say=NO_SESSION)
    encoded = await encode_first(tmp_path)
    assert encoded.encoder == "libx264"
    assert encoded.notes == (
        "parts of the video were encoded on the CPU: the GPU had no encoding session free",
    )
    assert card.asked == ["hardware", "uploaded"]


async def test_a_healthy_gpu_leaves_no_note(tmp_path, gpu):
    card = gpu()
    encoded = await encode_first(tmp_path)
    assert (encoded.encoder, encoded.decoded_on_gpu, encoded.notes) == ("h264_nvenc", True, ())
    assert card.asked == ["hardware"]


async def test_nvencs_own_decode_times_do_not_get_past_the_check(tmp_path, gpu, monkeypatch):
    gpu()
    monkeypatch.setattr(video, "_decode_times", lambda *_: "null")
    encoded = await encode_first(tmp_path)
    assert encoded.encoder == "libx264"  # whose own delay is the plan's: the stand-in's is one frame shorter


async def test_an_unreadable_source_is_blamed_only_after_the_cpu_has_failed_too(tmp_path, gpu):
    gpu()
    original = make_clip(tmp_path / "a.mp4", Clip(frames=50))
    given = await make_plan(original, PRESETS, segment_seconds=1, chunk_seconds=2)
    original.write_bytes(original.read_bytes()[:200])
    with pytest.raises(CorruptSource):
        await encode_chunk(given, 0, original, tmp_path / "out", NVENC)


async def test_auto_chooses_the_cpu_when_nvenc_does_not_open(gpu):
    gpu(say=NO_DRIVER)
    assert await find_problem("h264_nvenc", OFF) == "[h264_nvenc] Cannot load libcuda.so.1"
    assert (await choose_encoder("auto", OFF)).name == "libx264"


async def test_the_selftest_passes_every_check_on_a_gpu_that_runs_out_of_sessions(tmp_path, gpu):
    gpu(sessions=2)
    outcomes = await check_all(await make_bench(tmp_path, size="320x180", encodes_at_once=5, runner=OFF))
    assert [outcome.why for outcome in outcomes if outcome.verdict == "failed"] == []
    assert "no encoding session free" in outcomes[-1].why


async def test_the_selftest_finds_the_cq_that_looks_like_a_rate_factor(tmp_path, gpu):
    gpu()
    table = await calibration(tmp_path, OFF)
    found = re.search(r"CQ - rate factor: ([0-9.]+) on average", table)
    assert found, table
    # Not exactly: the stand-in has none of x264's own parameters, which change the quality as well.
    assert float(found[1]) == pytest.approx(STAND_IN_STEPS, abs=2.5)
    assert len(table.splitlines()) == 3 + len(CRFS)


async def test_samples_of_a_video_are_encoded_by_nvenc_where_its_chunks_will_be(tmp_path, gpu):
    card = gpu()
    original = make_clip(tmp_path / "a.mp4", replace(TAGGED, frames=300))
    given = await make_plan(original, PRESETS, segment_seconds=2, chunk_seconds=4)
    search = PerTitleSearch("quality", await find_judge("", OFF), "h264_nvenc", OFF, max_share=3.0)
    adapted = await search(given, original)
    quality = adapted.report.quality
    assert quality.metric == "ssim"
    assert len(card.asked) == 2 * quality.samples
    assert {rung.crf for rung in adapted.rungs} != {rung.crf for rung in given.rungs}


async def test_the_selftest_says_what_failed_when_the_gpu_cannot_decode(tmp_path, gpu):
    gpu(say_hardware=NO_DECODER)
    outcomes = await check_all(await make_bench(tmp_path, size="320x180", encodes_at_once=1, runner=OFF))
    assert [outcome.verdict for outcome in outcomes] == ["failed", "ok", "ok", "ok"]
    assert "could not decode" in outcomes[0].why


def test_the_selftest_says_what_is_missing_when_there_is_no_gpu(gpu):
    gpu(say=NO_DRIVER)
    ran = subprocess.run(
        [sys.executable, "-m", "services.transcoder.selftest"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"SANDBOX": "off"},
    )
    assert ran.returncode == 1
    assert ran.stdout.startswith("NVENC does not work here: the NVIDIA driver's libraries were not found.")
    assert "Traceback" not in ran.stderr


def test_the_selftest_says_so_when_there_is_no_ffmpeg(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "services.transcoder.selftest"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PATH": str(tmp_path)},
    )
    assert (ran.returncode, ran.stdout) == (1, "NVENC cannot be tested: ffmpeg is not installed.\n")


# --- options -----------------------------------------------------------------------------------------------


def ffmpeg_help(topic: str) -> str:
    run = subprocess.run(["ffmpeg", "-hide_banner", "-h", topic], capture_output=True, text=True, check=False)
    if "AVOptions" not in run.stdout:
        pytest.skip(f"this ffmpeg has no {topic}")
    return run.stdout


def listed(text: str) -> dict[str, set[str]]:
    """Return the options that a help text lists, each with the names of its values."""
    options: dict[str, set[str]] = {}
    name = ""
    for line in text.splitlines():
        if found := re.match(r" {2,3}-?([\w-]+) +<\w+> ", line):
            name = found[1]
            options.setdefault(name, set())
        elif name and (found := re.match(r" {5}([\w.-]+) ", line)):
            options[name].add(found[1])
    return options


def nvenc_options() -> dict[str, str]:
    """Return the bare names of the options between `-c:v h264_nvenc` and the muxer's."""
    argv = chunk_argv(plan(), plan().chunks[1], "/in.mp4", "/out", "h264_nvenc")
    first = argv.index("h264_nvenc") + 1
    options = argv[first : argv.index("-c:a")]
    return {
        name.removeprefix("-").split(":")[0]: value
        for name, value in zip(options[::2], options[1::2], strict=True)
    }


def test_every_option_of_nvenc_is_one_that_this_ffmpeg_knows():
    own, generic = listed(ffmpeg_help("encoder=h264_nvenc")), ffmpeg_help("full")
    assert own["preset"] >= {"p4"}
    for name in (*nvenc_options(), *(option.removeprefix("-") for option in HARDWARE[::2])):
        known = name in own or re.search(rf"^ *-{re.escape(name)}(\[:\S+\])? ", generic, re.MULTILINE)
        assert known, f"-{name}"


def test_every_named_value_of_nvenc_is_one_that_this_ffmpeg_knows():
    own = listed(ffmpeg_help("encoder=h264_nvenc"))
    given = nvenc_options()
    named = {name: value for name, value in given.items() if own.get(name)}
    assert named.keys() >= {"preset", "tune", "rc", "profile", "level", "b_ref_mode"}
    assert {name: value for name, value in named.items() if value not in own[name]} == {}


def test_the_trial_has_the_options_of_a_chunk():
    argv = trial_argv("h264_nvenc")
    assert argv[argv.index("-c:v") : argv.index("-f", argv.index("-c:v"))] == [
        *("-c:v", "h264_nvenc", "-preset", "p4", "-tune", "hq", "-rc", "vbr", "-profile:v", "high"),
        *("-spatial-aq", "1", "-no-scenecut", "1", "-b_ref_mode", "disabled", "-bf", "2"),
    ]


def test_the_gpus_filters_have_the_options_that_are_given_to_them():
    graph = chunk_argv(plan(), plan().chunks[1], "/in.mp4", "/out", "h264_nvenc")
    text = graph[graph.index("-filter_complex") + 1]
    calls = re.findall(r"scale_cuda=([^,\[]+)", text)
    known = listed(ffmpeg_help("filter=scale_cuda"))
    assert list(known)[:2] == ["w", "h"]  # given by position
    assert calls == ["1280:720:format=yuv420p:interp_algo=bilinear", "640:360:interp_algo=bilinear"]
    assert "format" in known
    assert "bilinear" in known["interp_algo"]
    assert listed(ffmpeg_help("filter=hwupload_cuda")).keys() == {"device"}
    assert {"pts", "dts"} <= listed(ffmpeg_help("bsf=setts")).keys()


# --- levels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "height", "rate", "video_bps"),
    [
        (1920, 1080, "30", 5_000_000),
        (1080, 1920, "60", 5_000_000),
        (1280, 720, "30000/1001", 2_800_000),
        (1280, 720, "60", 2_800_000),
        (854, 480, "30", 1_400_000),
        (854, 480, "25", 1_400_000),
        (640, 360, "30", 800_000),
        (256, 96, "25", 300_000),
    ],
)
def test_the_level_is_the_one_that_x264_would_choose(tmp_path, width, height, rate, video_bps):
    peak, buffer = video_bps * 3 // 2, video_bps * 2
    clip = tmp_path / "a.mp4"
    subprocess.run(
        [
            *(
                "ffmpeg",
                "-loglevel",
                "error",
                "-f",
                "lavfi",
                "-i",
                f"color=size={width}x{height}:rate={rate}",
            ),
            *("-frames:v", "3", "-c:v", "libx264", "-preset", "veryfast", "-profile:v", "high"),
            *("-b:v", str(video_bps), "-maxrate:v", str(peak), "-bufsize:v", str(buffer), str(clip)),
        ],
        check=True,
    )
    probe = ["ffprobe", "-loglevel", "error", "-show_entries", "stream=level", "-of", "csv=p=0", str(clip)]
    chosen = subprocess.run(probe, check=True, capture_output=True, text=True).stdout.strip()
    assert lowest_level(width, height, Fraction(rate), peak, buffer).replace(".", "") == chosen
