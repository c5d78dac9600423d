"""GPU faults recognized in ffmpeg's output, and the next strategy."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from services.transcoder.encode.decode_errors import lost_packets
from services.transcoder.encode.gpu_fallback import (
    SENTENCES,
    WORDS,
    Strategy,
    audio_changes,
    gpu_fault,
    next_strategy,
    note,
)
from services.transcoder.encode.time_limits import read_from
from tests.unit.transcoder_values import plan

OPENING = (
    "Error initializing output stream 0:0 -- Error while opening encoder for output stream #0:0"
    " - maybe incorrect parameters such as bit_rate, rate, width or height\nConversion failed!"
)
NO_DECODER = "[h264] Failed setup for format cuda: hwaccel initialisation returned error."
HARDWARE = Strategy("h264_nvenc", decodes_on_gpu=True)
UPLOADED = Strategy("h264_nvenc")
SOFTWARE = Strategy("libx264")


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        ("[h264_nvenc] Cannot load libcuda.so.1\n[h264_nvenc] Nvenc unloaded\n" + OPENING, "no_driver"),
        (
            "[h264_nvenc] Cannot load libnvidia-encode.so.1\n[h264_nvenc] The minimum required Nvidia driver"
            " for nvenc is 470.57.02 or newer\n" + OPENING,
            "no_driver",
        ),
        ("[AVHWDeviceContext] Cannot load libcuda.so.1\nCould not dynamically load CUDA", "no_driver"),
        ("Driver does not support the required nvenc API version. Required: 11.1 Found: 10.0", "old_driver"),
        (
            "[h264_nvenc] OpenEncodeSessionEx failed: out of memory (10): (no details)\n"
            "[h264_nvenc] No capable devices found\n" + OPENING,
            "session_limit",
        ),
        (
            "[h264_nvenc] OpenEncodeSessionEx failed: incompatible client key (21)\n" + OPENING,
            "session_limit",
        ),
        (
            "[h264_nvenc] OpenEncodeSessionEx failed: unsupported device (2): (no details)\n"
            "[h264_nvenc] No capable devices found\n" + OPENING,
            "no_device",
        ),
        ("[h264_nvenc] No capable devices found\n" + OPENING, "no_device"),
        (
            "[h264_nvenc] dl_fn->cuda_dl->cuInit(0) failed -> CUDA_ERROR_OPERATING_SYSTEM: OS call failed or"
            " operation not supported on this OS\n" + OPENING,
            "gpu_error",
        ),
        (f"[h264] Video width 7680 not within range from 48 to 4096\n{NO_DECODER}", "decode"),
        ("cu->cuInit(0) failed -> CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected", "no_device"),
        ("cu->cuCtxCreate(&hwctx->cuda_ctx) failed -> CUDA_ERROR_OUT_OF_MEMORY: out of memory", "memory"),
        ("[h264_nvenc] CreateBitstreamBuffer failed: out of memory (10): (no details)\n" + OPENING, "memory"),
        (f"decoder->cvdl->cuvidCreateDecoder() failed -> CUDA_ERROR_OUT_OF_MEMORY\n{NO_DECODER}", "memory"),
        (NO_DECODER, "decode"),
        ("[hevc] Hardware is lacking required capabilities\nConversion failed!", "decode"),
        ("[h264] No decoder surfaces left\nError while decoding stream #0:0: Invalid data found", "decode"),
        ("[h264] Cannot load libnvcuvid.so.1\n[h264] Failed loading nvcuvid.", "decode"),
        (
            "[h264_nvenc] InitializeEncoder failed: invalid param (8): Invalid Level.\n" + OPENING,
            "unsupported",
        ),
        ("[h264_nvenc] InitializeEncoder failed: out of memory (10): (no details)\n" + OPENING, "memory"),
        ("[h264_nvenc] EncodePicture failed!: generic error (20): (no details)", "gpu_error"),
        ("cu->cuMemcpy2DAsync() failed -> CUDA_ERROR_ILLEGAL_ADDRESS: an illegal address", "gpu_error"),
        (OPENING, "gpu_error"),
        ("[mov] moov atom not found\nInvalid data found when processing input", None),
        ("av_interleaved_write_frame(): No space left on device", None),
    ],
)
def test_ffmpegs_messages_tell_what_was_wrong_with_the_gpu(stderr, expected):
    assert gpu_fault(1, stderr) == expected


def test_a_successful_encode_has_no_fault_whatever_it_printed():
    assert gpu_fault(0, "CUDA_ERROR_OUT_OF_MEMORY") is None


def test_a_crash_is_a_fault_of_the_gpu_and_a_kill_is_not():
    assert gpu_fault(-signal.SIGSEGV, "") == "crashed"
    assert gpu_fault(-signal.SIGKILL, "CUDA_ERROR_OUT_OF_MEMORY") is None


def test_every_reason_has_a_sentence():
    assert {reason for _, reason in WORDS} <= set(SENTENCES)
    assert note("session_limit") == (
        "parts of the video were encoded on the CPU: the GPU had no encoding session free"
    )


@pytest.mark.parametrize("fault", ["session_limit", "memory", "no_driver", "gpu_error", "crashed", "stalled"])
@pytest.mark.parametrize("way", [HARDWARE, UPLOADED])
def test_the_cpu_takes_over_at_once_when_the_gpu_refuses(way, fault):
    assert next_strategy(way, fault) == SOFTWARE


def test_decoding_in_memory_comes_before_the_cpu_when_the_gpu_cannot_decode():
    assert next_strategy(HARDWARE, "decode") == UPLOADED
    assert next_strategy(UPLOADED, "decode") == SOFTWARE


def test_the_cpu_stays_tolerant_when_the_gpu_refuses_a_damaged_source():
    assert next_strategy(Strategy("h264_nvenc", is_tolerant=True), "memory") == Strategy(
        "libx264", is_tolerant=True
    )


def test_a_damaged_source_is_read_tolerantly_once():
    tolerant = Strategy("libx264", is_tolerant=True)
    assert next_strategy(SOFTWARE, None) == tolerant
    assert next_strategy(tolerant, None) == replace(tolerant, key_frames_only=True)
    assert next_strategy(replace(tolerant, key_frames_only=True), None) is None


def test_no_strategy_reads_more_than_the_chunk_before_except_for_key_frames():
    given = plan()
    last = given.chunks[-1]
    assert last.index == 2
    tolerant = Strategy("libx264", is_tolerant=True)
    assert read_from(given, last, SOFTWARE) == last.encoded_from - 30, "its key frame is a second before"
    assert read_from(given, last, tolerant) == given.chunks[1].encoded_from
    assert read_from(given, given.chunks[0], tolerant) == 0
    assert read_from(given, last, replace(tolerant, key_frames_only=True)) == 0


def test_the_source_is_not_blamed_before_the_cpu_has_tried():
    way, tried = HARDWARE, []
    while way:
        tried.append(way)
        way = next_strategy(way, None)
    tolerant = [Strategy("h264_nvenc", is_tolerant=True), SOFTWARE, Strategy("libx264", is_tolerant=True)]
    assert tried == [HARDWARE, UPLOADED, *tolerant, replace(tolerant[-1], key_frames_only=True)]


@pytest.mark.parametrize("way", [SOFTWARE, UPLOADED, HARDWARE])
def test_changing_sound_is_converted_to_one_format_and_nothing_else_is_changed(way):
    words = "[graph_1_in_1_1] Changing audio frame properties on the fly is not supported\nConversion failed!"
    assert audio_changes(words)
    following = next_strategy(way, None, audio_changes=True)
    assert following == replace(way, audio_from_file=True)
    assert following is not None
    afterwards = next_strategy(following, None, audio_changes=True)
    assert afterwards is not None
    assert afterwards.audio_from_file
    assert not audio_changes("Conversion failed!")


def test_packets_that_did_not_decode_are_counted_where_reading_begins_at_key_frames():
    given = plan()
    old = "Error while decoding stream #0:0: Invalid data found when processing input\n"
    new = "[vist#0:0/h264] Error submitting packet to decoder: Invalid data found when processing input\n"
    assert lost_packets(given, 3 * old)
    assert lost_packets(given, old + 2 * new)
    assert not lost_packets(given, old + "[h264] mmco: unref short failure\n" * 9)
    assert not lost_packets(replace(given, container="mpegts"), 3 * old)
