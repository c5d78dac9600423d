"""Encodes samples of a source and has them judged."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.transcoder.command.chunk import chunk_argv
from services.transcoder.ffmpeg.runner import require_success
from services.transcoder.ffmpeg.sandbox import Access
from services.transcoder.quality.vmaf import cpu_seconds, judge_argv, with_log_level

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.transcoder.command.video import EncoderName
    from services.transcoder.ffmpeg.runner import FfmpegRunner
    from services.transcoder.plan.model import Chunk, Plan
    from services.transcoder.quality.vmaf import Job, Judge

TIMEOUT_SECONDS: Final = 300.0  # for one command on one sample of a few seconds


@dataclass(frozen=True, slots=True)
class Trials:
    """Encodes and judges samples of one source, in folders within `folder`.

    Both raise EncodeFailed or EncodeStalled, and return the CPU seconds that were spent.
    """

    judge: Judge
    runner: FfmpegRunner
    source_path: str
    folder: str

    async def encode(self, plan: Plan, sample: Chunk, folder: str, encoder: EncoderName) -> float:
        """Encode `sample` into `folder`."""
        await asyncio.to_thread(_make_folders, folder, [rung.name for rung in plan.rungs])
        argv = chunk_argv(plan, sample, self.source_path, folder, encoder)
        return await self._run([argv[0], "-benchmark", *with_log_level(argv[1:], "info")], "encoding samples")

    async def compare(self, job: Job, *, enlarged_in: str | None = None) -> float:
        """Write the scores of encoded samples (see judge_argv)."""
        return await self._run(judge_argv(job, self.judge, enlarged_in=enlarged_in), "judging samples")

    async def _run(self, argv: Sequence[str], what: str) -> float:
        finished = await self.runner.run_ffmpeg(
            argv,
            frames=1,
            timeout_seconds=TIMEOUT_SECONDS,
            stall_seconds=TIMEOUT_SECONDS,
            access=Access(reads=(self.source_path,), writes=(self.folder,)),
        )
        require_success(finished, what)
        return cpu_seconds(finished.stderr)


def _make_folders(parent: str, names: Sequence[str]) -> None:
    for name in names:
        Path(parent, name).mkdir(parents=True, exist_ok=True)
