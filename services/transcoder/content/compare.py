"""Compares pictures and packets of a source with its output, and makes warnings; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from services.transcoder.command.chunk import BASE_SECONDS
from services.transcoder.command.deinterlace import deinterlaces
from services.transcoder.content.commands import DENSE_SECONDS
from services.transcoder.content.freeze_detection import (
    count_apart,
    goes_on,
    still_bytes,
    still_runs,
    unshown,
)
from services.transcoder.content.picture_difference import differing
from services.transcoder.media import HIDING_CODECS
from shared.contracts.warnings import VideoWarning, WarningCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.transcoder.content.checked_chunk import Checked
    from services.transcoder.content.commands import Stretch
    from services.transcoder.content.freeze_detection import Packet
    from services.transcoder.content.picture_difference import Picture

MAX_STRETCHES: Final = 3
SAMPLE_SECONDS: Final = 1.0  # the time that a sampled picture represents
MAX_UNSHOWN: Final = 3
MAX_UNSHOWN_SHARE: Final = 0.02


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A section (output seconds) in which the output may be frozen.

    `pictures` is the number of source pictures in it, counted at the sampling rate.
    """

    stretch: Stretch
    pictures: int


def of_output(job: Checked, source: Sequence[Packet]) -> list[Packet]:
    """Return the packets of the chunk with their times in the output."""
    moments = (job.on_one_clock(packet.seconds) for packet in source)
    return [
        replace(packet, seconds=job.output_seconds(moment))
        for packet, moment in zip(source, moments, strict=True)
        if job.frame_of(moment) in job.frames
    ]


def compare_counts(job: Checked, packets: Sequence[Packet]) -> list[VideoWarning]:
    """Return a warning where the output's rate is too low for the pictures of the source."""
    video = job.plan.video
    hides = video.codec in HIDING_CODECS or video.first_field != "none"
    lost = [] if hides else unshown(packets, job.frame_at)
    if len(lost) <= max(MAX_UNSHOWN, len(packets) * MAX_UNSHOWN_SHARE):
        return []
    message = f"{len(lost)} of {len(packets)} pictures are not shown: the frame rate is too low for them"
    return [
        VideoWarning(
            code=WarningCode.PICTURE_DIFFERS,
            message=message,
            start_seconds=lost[0].seconds,
            end_seconds=lost[-1].seconds,
        )
    ]


def suspicious_stretches(
    job: Checked, packets: Sequence[Packet], output: Sequence[Packet]
) -> list[Suspicion]:
    """Return where the output's packets repeat a picture but the source's do not."""
    rung, video = job.plan.rungs[-1], job.plan.video
    runs = still_runs(output, still_bytes(rung.width, rung.height))
    limit = still_bytes(video.width, video.height)
    found = ((begin - BASE_SECONDS, end - BASE_SECONDS) for begin, end in runs)
    return [
        Suspicion(run, count_apart(packets, *run, DENSE_SECONDS))
        for run in found
        if goes_on(packets, *run, limit)
    ][:MAX_STRETCHES]


def compare_pictures(job: Checked, wanted: Sequence[Picture], shown: Sequence[Picture]) -> list[VideoWarning]:
    numbers = {picture.seconds: job.frame_of(picture.seconds) for picture in wanted}
    output = {round((picture.seconds - BASE_SECONDS) * job.plan.rate): picture for picture in shown}
    return [*_not_alike(job, differing(wanted, output, numbers)), *_combed(job, wanted)]


def _not_alike(job: Checked, pictures: Sequence[Picture]) -> list[VideoWarning]:
    message = "the picture does not look like the source's: different content, colours or shape"
    return [
        VideoWarning(
            code=WarningCode.PICTURE_DIFFERS,
            message=message,
            start_seconds=seconds,
            end_seconds=seconds + SAMPLE_SECONDS,
        )
        for seconds in (job.output_seconds(picture.seconds) for picture in pictures)
    ]


def _combed(job: Checked, pictures: Sequence[Picture]) -> list[VideoWarning]:
    """Return a warning if pictures are interlaced but were not deinterlaced."""
    first = next((picture for picture in pictures if picture.is_interlaced), None)
    if first is None or (deinterlaces(job.plan.video) and not job.decoded_on_gpu):
        return []
    begin = job.output_seconds(first.seconds)
    message = "interlaced pictures were not deinterlaced"
    return [VideoWarning(code=WarningCode.PICTURE_DIFFERS, message=message, start_seconds=begin)]
