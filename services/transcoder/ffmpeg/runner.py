"""Runs ffmpeg and ffprobe: with time limits, stall detection, no secrets, and death with the parent."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import signal
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from services.transcoder.ffmpeg.cuda_cache import lent_kernels
from services.transcoder.ffmpeg.sandbox import MEMORY_BYTES, NOTHING, confined
from services.transcoder.ffmpeg.sandbox_exec import EXIT_CODE
from services.transcoder.ffmpeg.task_group import first_of
from shared.errors import EncodeFailed, EncodeStalled, NotConvertible

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from services.transcoder.ffmpeg.sandbox import Access, Mode

    LineSink = Callable[[str], None]

STDERR_LINES: Final = 200  # x264 alone writes fifteen lines per rendition
LINE_LIMIT_BYTES: Final = 1 << 20
PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH",
                    "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES")  # fmt: skip
# Static builds crash when they convert a programme name with another libc's tables; the names are not used.
WITHOUT_CONVERTERS: Final = {"GCONV_PATH": "/nonexistent"}
ADDRESS: Final = re.compile(r" @ 0x[0-9a-f]+")

WORLD_FAULTS: Final = ("No space left on device", "Cannot allocate memory", "Input/output error")


class EncodeInterrupted(EncodeFailed):
    """ffmpeg was killed, or the machine ran out of a resource; the source is not the cause."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a program: exit status (negative: the signal that killed it) and last output."""

    returncode: int
    stderr: str


class _Watch:
    """Records when a program last made progress."""

    def __init__(self) -> None:
        self.moved_at = time.monotonic()
        self.frames = -1

    def note(self, frames: int) -> None:
        if frames > self.frames:
            self.frames, self.moved_at = frames, time.monotonic()

    @property
    def idle_seconds(self) -> float:
        return time.monotonic() - self.moved_at


def _environment() -> dict[str, str]:
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {**passed_on, **WITHOUT_CONVERTERS}


async def _start(command: Sequence[str], environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,
            limit=LINE_LIMIT_BYTES,
        )
    except OSError as error:
        if error.errno != errno.E2BIG:
            raise
        raise NotConvertible(
            "the command for this source is longer than the system allows: its timestamps need too many"
            " corrections; send it in another format, such as MP4 with H.264 and AAC"
        ) from error


async def _follow(
    process: asyncio.subprocess.Process, on_line: LineSink, on_error: LineSink, check: Callable[[], None]
) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            readers = [
                group.create_task(_read_lines(process.stdout, on_line)),
                group.create_task(_read_lines(process.stderr, on_error)),
            ]
            watcher = group.create_task(_call_each_second(check))
            await asyncio.wait(readers)
            await process.wait()
            watcher.cancel()
    except ExceptionGroup as errors:  # not except*: an error raised there would be wrapped in a group
        raise first_of(errors) from None


async def _read_lines(stream: asyncio.StreamReader | None, sink: LineSink) -> None:
    assert stream is not None  # noqa: S101 - a pipe was requested
    while line := await stream.readline():
        sink(line.decode("utf-8", "replace").rstrip())


async def _call_each_second(check: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(1)
        check()


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Kill the program and its children, unless it has ended."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.shield(process.wait())


@dataclass(frozen=True, slots=True)
class FfmpegRunner:
    """Runs ffmpeg and ffprobe, confined according to `mode`, each with at most `memory_bytes`.

    `cuda_cache` is the directory of FFmpeg's compiled GPU filters, if any.
    """

    mode: Mode = "best-effort"
    cuda_cache: str | None = None
    memory_bytes: int = MEMORY_BYTES

    async def run_program(
        self,
        argv: Sequence[str],
        *,
        on_line: LineSink,
        timeout_seconds: float,
        access: Access = NOTHING,
        check: Callable[[], None] = lambda: None,
        environment: Mapping[str, str] | None = None,
    ) -> Finished:
        """Run `argv` with `access`, pass each line of output to `on_line`, and return the result.

        `check` is called about once a second and may raise. Anything that ends this function early
        (EncodeStalled after `timeout_seconds`, cancellation, an error in a callback) kills the program
        and its children. Raises NotConvertible when the command is too long for the system.
        """
        last_words: deque[str] = deque(maxlen=STDERR_LINES)
        with lent_kernels(self.cuda_cache, argv, access) as lent:
            process = await _start(
                confined(argv, access, timeout_seconds, self.mode, memory_bytes=self.memory_bytes),
                {**_environment(), **lent, **(environment or {})},
            )
            try:
                async with asyncio.timeout(timeout_seconds):
                    await _follow(process, on_line, last_words.append, check)
            except TimeoutError as error:
                raise EncodeStalled(f"{argv[0]} was still running after {timeout_seconds:.0f} s") from error
            finally:
                await _kill(process)
        finished = Finished(await process.wait(), ADDRESS.sub("", "\n".join(last_words)))
        if finished.returncode == EXIT_CODE and finished.stderr.startswith("not started: "):
            raise EncodeInterrupted(f"{argv[0]}: {finished.stderr}")
        return finished

    async def run_ffprobe(
        self,
        arguments: Sequence[str],
        *,
        on_line: LineSink,
        timeout_seconds: float,
        access: Access = NOTHING,
        log_level: str = "error",
    ) -> Finished:
        """Run ffprobe with `arguments`, line by line; raises EncodeStalled after `timeout_seconds`."""
        argv = ["ffprobe", "-hide_banner", "-loglevel", log_level, *arguments]
        return await self.run_program(argv, on_line=on_line, timeout_seconds=timeout_seconds, access=access)

    async def read_ffprobe(
        self,
        arguments: Sequence[str],
        *,
        timeout_seconds: float,
        access: Access = NOTHING,
        log_level: str = "error",
    ) -> tuple[str, Finished]:
        """Run ffprobe with `arguments` and return its output and result."""
        lines: list[str] = []
        finished = await self.run_ffprobe(
            arguments,
            on_line=lines.append,
            timeout_seconds=timeout_seconds,
            access=access,
            log_level=log_level,
        )
        return "\n".join(lines), finished

    async def run_ffmpeg(
        self,
        argv: Sequence[str],
        *,
        frames: int,
        timeout_seconds: float,
        stall_seconds: float,
        access: Access = NOTHING,
        on_progress: Callable[[float], None] = lambda _: None,
        environment: Mapping[str, str] | None = None,
    ) -> Finished:
        """Run an ffmpeg command that reports with `-progress pipe:1` and return its result.

        `on_progress` gets the written fraction of `frames` (0 to 1). Raises EncodeStalled after
        `timeout_seconds`, or after `stall_seconds` without a new frame.
        """
        watch = _Watch()

        def note(line: str) -> None:
            name, _, value = line.partition("=")
            if name == "frame" and value.strip().isdigit():
                watch.note(int(value))
                on_progress(min(1.0, watch.frames / max(1, frames)))

        def check() -> None:
            if watch.idle_seconds > stall_seconds:
                raise EncodeStalled(f"{argv[0]} has written no frame for {stall_seconds:.0f} s")

        return await self.run_program(
            argv,
            on_line=note,
            timeout_seconds=timeout_seconds,
            access=access,
            check=check,
            environment=environment,
        )


def parse_answer(text: str) -> Mapping[str, Any]:
    """Parse ffprobe's JSON; empty if ffprobe crashed while writing it."""
    try:
        answer: Mapping[str, Any] = json.loads(text or "{}")
    except json.JSONDecodeError:
        return {}
    return answer


RUNNER: Final = FfmpegRunner()  # used when no other is given


def require_success(finished: Finished, what: str) -> None:
    """Raise EncodeFailed with ffmpeg's last output unless it succeeded."""
    expect_uninterrupted(finished, what)
    if finished.returncode:
        raise EncodeFailed(_last_words(finished, what))


def expect_uninterrupted(finished: Finished, what: str) -> None:
    """Raise EncodeInterrupted when the source did not cause the end."""
    if finished.returncode < 0:
        name = signal.Signals(-finished.returncode).name
        raise EncodeInterrupted(f"{what}: ffmpeg was killed by {name}")
    fault = next((words for words in WORLD_FAULTS if words in finished.stderr), None)
    if fault:
        raise EncodeInterrupted(f"{what}: ffmpeg stopped: {fault}")


def _last_words(finished: Finished, what: str) -> str:
    return f"{what}: ffmpeg ended with {finished.returncode}: {finished.stderr[-1500:]}"
