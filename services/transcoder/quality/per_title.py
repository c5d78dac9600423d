"""Adapts the ladder to a video: encodes short samples and chooses each rendition's rate factor from them.

This never fails a video: without a result the preset's rate factors are kept.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import structlog

from services.transcoder.quality.adapt_plan import BITS, Found, adapt_plan
from services.transcoder.quality.choose_crf import STEP, Trial
from services.transcoder.quality.samples import MAX_SHARE, choose_samples, trial_plan
from services.transcoder.quality.trials import Trials
from services.transcoder.quality.vmaf import Job, enlarged_log_path, log_path, read_scores
from shared.errors import PipelineError, described

if TYPE_CHECKING:
    from services.transcoder.command.video import EncoderName
    from services.transcoder.ffmpeg.runner import FfmpegRunner
    from services.transcoder.plan.model import Chunk, Plan
    from services.transcoder.quality.vmaf import Judge

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PerTitleSearch:
    """Chooses rate factors, and with "ladder" also the renditions worth encoding.

    Samples are encoded like chunks, by `encoder`, and measured by `judge`. They take at most `max_share` of
    the CPU time of the whole encode.
    """

    mode: Literal["quality", "ladder"]
    judge: Judge
    encoder: EncoderName
    runner: FfmpegRunner
    max_share: float = MAX_SHARE

    async def __call__(self, plan: Plan, source_path: str | Path, /, *, keep_all: bool = False) -> Plan:
        """Return `plan` with rate factors for this video, and a report of them; `keep_all`: every rendition.

        Returns `plan` unchanged if the video is too short for samples, if no rendition has a target quality,
        or if the search fails.
        """
        samples = choose_samples(plan, self.max_share)
        if not samples or not any(rung.crf is not None for rung in plan.rungs):
            return plan
        try:
            with tempfile.TemporaryDirectory(prefix="samples-") as folder:
                drops = self.mode == "ladder" and not keep_all
                search = _Search(self, plan, str(source_path), folder, compares_sizes=drops)
                for sample in samples:
                    await search.try_sample(sample)
        except (PipelineError, OSError, ValueError) as error:
            log.warning("per_title_skipped", error=described(error))
            return plan
        return adapt_plan(plan, search.found(len(samples)))


@dataclass(slots=True)
class _Measured:
    """The results so far of one rung in one trial."""

    bits: int = 0
    vmaf: list[float] = field(default_factory=list)


class _Search:
    """The samples of one video."""

    def __init__(
        self, settings: PerTitleSearch, plan: Plan, source_path: str, folder: str, *, compares_sizes: bool
    ) -> None:
        self._settings, self._plan, self._folder = settings, plan, folder
        self._trials = Trials(settings.judge, settings.runner, source_path, folder)
        self._plans = [trial_plan(plan, more) for more in (0.0, STEP)]
        self._measured = [[_Measured() for _ in trial.rungs] for trial in self._plans]
        below = self._plans[0].rungs[:-1] if compares_sizes else ()
        self._enlarged: list[list[float]] = [[] for _ in below]
        self._compares_sizes = compares_sizes
        self._seconds = self._cpu_seconds = 0.0

    async def try_sample(self, sample: Chunk) -> None:
        """Encode one sample with every trial's rate factors and measure the results."""
        folders = [str(Path(self._folder, str(number))) for number in range(len(self._plans))]
        encoder = self._settings.encoder
        for plan, folder in zip(self._plans, folders, strict=True):
            self._cpu_seconds += await self._trials.encode(plan, sample, folder, encoder)
        job = Job(self._plans[0], sample, self._trials.source_path, folders)
        enlarged_in = self._folder if self._compares_sizes else None
        self._cpu_seconds += await self._trials.compare(job, enlarged_in=enlarged_in)
        await asyncio.to_thread(self._collect, job)
        self._seconds += self._plan.seconds_in(sample)

    def _collect(self, job: Job) -> None:
        metric = self._settings.judge.metric
        for folder, results in zip(job.folders, self._measured, strict=True):
            for number, measured in enumerate(results):
                encoded = Path(job.encoded(folder, number))
                measured.bits += encoded.stat().st_size * BITS
                measured.vmaf += read_scores(log_path(folder, number), metric)
                encoded.unlink()
        for number, scores in enumerate(self._enlarged):
            scores.extend(read_scores(enlarged_log_path(self._folder, number), metric))

    def found(self, samples: int) -> Found:
        """Return the combined result of all samples."""
        usual, higher = (
            [
                Trial(rung.crf or 0.0, measured.bits / self._seconds, measured.vmaf)
                for rung, measured in zip(trial.rungs, results, strict=True)
            ]
            for trial, results in zip(self._plans, self._measured, strict=True)
        )
        enlarged = self._enlarged if self._compares_sizes else None
        pairs = list(zip(usual, higher, strict=True))
        return Found(pairs, enlarged, samples, self._cpu_seconds, self._settings.judge.metric)
