"""The launcher's numbers against the kernel's documented interface, its filter in an interpreter of ours."""

from __future__ import annotations

import struct

import pytest

from services.transcoder.ffmpeg.sandbox import Access, confined, uses_gpu
from services.transcoder.ffmpeg.sandbox_exec import (
    ALLOW,
    KILL,
    REFUSE,
    SYSCALLS,
    UNKNOWN,
    handled_access,
    network_filter,
    ruleset,
)

AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10
FORK_FLAGS, THREAD_FLAGS = 0x11, 0x3D0F00


def judge(machine: str, number: int, argument: int = 0, arch: int | None = None) -> int:
    """Interpret the filter for one system call and return its verdict."""
    code = network_filter(machine)
    steps = [struct.unpack_from("=HBBI", code, place) for place in range(0, len(code), 8)]
    words = {0: number, 4: SYSCALLS[machine][0] if arch is None else arch, 16: argument}
    place = loaded = 0
    while True:
        operation, if_true, if_false, operand = steps[place]
        place += 1
        if operation == 0x06:
            return operand
        if operation == 0x20:
            loaded = words[operand]
            continue
        met = {0x15: loaded == operand, 0x35: loaded >= operand, 0x45: bool(loaded & operand)}[operation]
        place += if_true if met else if_false


@pytest.mark.parametrize(("machine", "socket", "clone"), [("x86_64", 41, 56), ("aarch64", 198, 220)])
def test_filter_refuses_when_a_socket_is_not_local_or_a_process_is_made(machine, socket, clone):
    assert judge(machine, socket, AF_UNIX) == ALLOW
    assert {judge(machine, socket, family) for family in (0, AF_INET, AF_INET6, 16, 17, 40)} == {REFUSE}
    assert judge(machine, clone, THREAD_FLAGS) == ALLOW
    assert judge(machine, clone, FORK_FLAGS) == REFUSE
    assert judge(machine, 435) == UNKNOWN
    assert judge(machine, 425) == REFUSE
    assert judge(machine, 0) == ALLOW
    assert judge(machine, socket, AF_UNIX, arch=0x40000003) == KILL


def test_filter_refuses_when_the_call_is_of_the_x32_interface():
    assert judge("x86_64", 0x40000000 | 41, AF_UNIX) == REFUSE


@pytest.mark.parametrize(
    ("abi", "rights", "size"),
    [(1, 13, 8), (2, 14, 8), (3, 15, 8), (4, 15, 16), (5, 16, 16), (6, 16, 24), (7, 16, 24)],
)
def test_ruleset_denies_all_that_the_version_knows(abi, rights, size):
    assert handled_access(abi) == 2**rights - 1
    assert len(ruleset(abi)) == size
    assert struct.unpack_from("=Q", ruleset(abi))[0] == handled_access(abi)
    assert struct.unpack(f"={size // 8}Q", ruleset(abi))[1:] == (3, 3)[: size // 8 - 1]


def test_memory_is_bounded_and_addresses_too_where_no_gpu_is_used():
    guarded = ["ffmpeg", "-codec_whitelist", "h264,h264_cuvid", "-i", "file:x", "-c:v", "libx264", "y"]
    on_gpu = ["ffmpeg", "-i", "file:x", "-c:v", "h264_nvenc", "y"]
    assert not uses_gpu(guarded)
    assert uses_gpu(on_gpu)
    bounds = {"--address-bytes", "--data-bytes"}
    assert bounds & {*confined(guarded, Access(), 60)} == bounds
    assert bounds & {*confined(on_gpu, Access(), 60)} == {"--data-bytes"}


def test_confined_command_ends_with_the_program_when_paths_look_like_options():
    argv = confined(["ffmpeg", "-i", "x"], Access(reads=("--",), writes=("--read",)), 60)
    assert argv[-3:] == ["ffmpeg", "-i", "x"]


def test_confined_command_limits_memory_to_what_the_runner_says():
    argv = confined(["ffmpeg", "-i", "x"], Access(), 60, memory_bytes=5)
    assert argv[argv.index("--data-bytes") + 1] == "5"
