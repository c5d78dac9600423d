"""Samples later pictures of a source for properties that the first ones lack, and for decoding delays.

A recorder may refresh pictures column by column (x264's intra refresh): after a seek the decoder returns
nothing until the whole picture is refreshed. This is no damage, but decoding has to start earlier.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING, Any, Final

from services.transcoder.ffmpeg.runner import RUNNER, parse_answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from fractions import Fraction

    from services.transcoder.ffmpeg.runner import FfmpegRunner
    from services.transcoder.probe.patched_file import View

    Json = Mapping[str, Any]

PLACES: Final = 3
PACKETS: Final = (4, 40, 600)  # packets to read until one yields a picture
SECONDS_A_PLACE: Final = 5  # short videos are sampled at fewer points


@dataclass(frozen=True, slots=True)
class PictureSample:
    """The result of decoding from one place: delay after its key frame in ticks, and pictures."""

    delay: int
    pictures: Sequence[Json]


def sample_points(key_pts: Sequence[int], time_base: Fraction) -> list[int]:
    """Return the key frames (ticks) to sample, spread over the video, without the first."""
    if len(key_pts) < 2:
        return []
    seconds = (key_pts[-1] - key_pts[0]) * time_base
    count = min(PLACES, len(key_pts) - 1, 1 + int(seconds / SECONDS_A_PLACE))
    return [key_pts[(number + 1) * len(key_pts) // (count + 1)] for number in range(count)]


@dataclass(frozen=True, slots=True)
class SampledStream:
    """The stream to sample, and the options for reading its file.

    `have` fetches a number of packets from a moment on, if missing.
    """

    view: View
    index: int
    options: Sequence[str]
    timeout_seconds: float
    runner: FfmpegRunner = RUNNER
    have: Callable[[float, int], Awaitable[None]] | None = None


async def sample_pictures(stream: SampledStream, moments: Iterable[Fraction]) -> list[PictureSample]:
    """Sample the stream at each of `moments` (seconds on the file's clock).

    One program tries them all; where a few packets do not yield a picture, more are read there.
    """
    places = list(moments)
    first = by_place(await _read(stream, places, PACKETS[0]), PACKETS[0]) if places else []
    samples = [
        read_sample(found or ()) or await _sample(stream, moment)
        for moment, found in zip_longest(places, first[: len(places)])
    ]
    return [sample for sample in samples if sample is not None]


async def _sample(stream: SampledStream, moment: Fraction) -> PictureSample | None:
    """Decode from the key frame at `moment` until a picture appears; None if none does."""
    for packets in PACKETS[1:]:
        sample = read_sample(await _read(stream, [moment], packets))
        if sample is not None:
            return sample
    return None


async def _read(stream: SampledStream, moments: Sequence[Fraction], packets: int) -> Sequence[Json]:
    """Return a number of packets from each of `moments` on, and the pictures that are decoded from them."""
    if stream.have:
        for moment in moments:
            await stream.have(float(moment), packets)
    intervals = ",".join(f"{float(moment):.6f}%+#{packets}" for moment in moments)
    text, _ = await stream.runner.read_ffprobe(
        [
            *stream.options,
            *("-select_streams", str(stream.index), "-show_packets", "-show_frames"),
            *("-read_intervals", intervals, "-of", "json", stream.view.url),
        ],
        timeout_seconds=stream.timeout_seconds,
        access=stream.view.access,
    )
    found: Sequence[Json] = parse_answer(text).get("packets_and_frames", [])
    return found


def by_place(found: Sequence[Json], packets: int) -> list[Sequence[Json]]:
    """Split the results from several places, each with the same number of packets."""
    starts, count = [], 0
    for place, item in enumerate(found):
        if item.get("type") == "packet":
            starts += [place] if count % packets == 0 else []
            count += 1
    return [found[start:end] for start, end in pairwise([*starts, len(found)])]


def read_sample(found: Sequence[Json]) -> PictureSample | None:
    """Parse ffprobe's packets and frames; None if no picture was decoded."""
    pictures = [item for item in found if item.get("type") == "frame" and "width" in item]
    times = [picture["best_effort_timestamp"] for picture in pictures if "best_effort_timestamp" in picture]
    keys = [
        item["pts"]
        for item in found
        if item.get("type") == "packet" and "pts" in item and item.get("flags", "").startswith("K")
    ]
    if not (times and keys):
        return None
    return PictureSample(max(0, min(times) - min(keys)), pictures)
