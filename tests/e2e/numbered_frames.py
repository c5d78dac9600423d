"""Long clips with numbered frames and a tone, and the analysis of both after a conversion."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby, pairwise
from math import cos, floor, sin
from typing import TYPE_CHECKING, Final

import m3u8
import numpy as np

from tests.media import BITS, RATE, TONE_HZ, Clip, make_clip, read_sound, read_times, tone_at

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.e2e.system import Client

SECONDS: Final = 185
TICKS: Final = 90_000  # of MPEG-TS, a second
AAC_FRAME: Final = 1024
WINDOW, HOP = 480, 120  # samples: the phase of 10 ms of sound, every 2.5 ms
NEAR_JOIN: Final = (
    RATE // 4
)  # samples: where two encoders' frames meet, and the first that the later one made
EDGE_SECONDS: Final = 0.05  # where the tone itself begins and ends
DARK, BRIGHT = 80, 176  # between them a block is no bit: two pictures were mixed


@dataclass(frozen=True)
class Original:
    """A source to be made; without a rate its frames come at irregular times."""

    container: str
    rate: Fraction | None
    audio_rate: int

    def __str__(self) -> str:
        return f"{self.container} {float(self.rate):.2f} fps" if self.rate else f"{self.container} vfr"

    @property
    def times(self) -> list[float]:
        """When each frame is shown, in seconds."""
        if self.rate:
            return [float(number / self.rate) for number in range(floor(SECONDS * self.rate))]
        return [irregular(number) for number in range(round(SECONDS / STEP))]

    @property
    def seconds(self) -> float:
        """How long the picture and the sound last."""
        return self.times[-1] + float(1 / self.rate if self.rate else STEP)

    def make(self, directory: Path) -> Path:
        """Write the clip."""
        clip = Clip(
            rate=self.rate or Fraction(25),
            frames=len(self.times),
            audio_rate=self.audio_rate,
            sound_seconds=self.seconds,
            pictures=ENLARGE if self.rate else f"{ENLARGE},{IRREGULAR}",
            options=() if self.rate else ("-enc_time_base", f"1:{TICKS}", *LAST_PICTURE),
        )
        return make_clip(directory / f"numbered.{self.container}", clip)


# As from a phone in changing light: distances swing between 35 and 65 ms, hardly two are alike.
STEP, SWING, TURN, JITTER = 0.05, 0.7, 0.02, 0.0006
ENLARGE: Final = "scale=320:180:flags=neighbor"
IRREGULAR: Final = (
    f"settb=1/{TICKS},setpts='floor({TICKS}*({STEP}*N+{SWING}*(1-cos({TURN}*N))+{JITTER}*sin(2.4*N)))'"
)
# FFmpeg gives the last picture of such a clip no duration: it would be shown for no time at all.
LAST_PICTURE: Final = ("-bf", "0", "-bsf:v", f"setts=pts=PTS:dts=DTS:duration={STEP}/TB")


def irregular(number: int) -> float:
    """Return when frame `number` of a source without a rate is shown: IRREGULAR in Python."""
    swing = SWING * (1 - cos(TURN * number)) + JITTER * sin(2.4 * number)
    return floor(TICKS * (STEP * number + swing)) / TICKS


@dataclass(frozen=True)
class Rendition:
    """One rendition's segments as one file; `starts` are those of its segments in seconds."""

    path: Path
    width: int
    height: int
    starts: list[float]


async def fetch_renditions(client: Client, record: dict, directory: Path) -> dict[str, Rendition]:
    """Fetch every segment of every rendition through the playback URL."""
    url = record["playlistUrl"]
    variants = m3u8.loads((await client.fetch(url)).decode(), uri=url).playlists
    found = {}
    for variant in variants:
        playlist = m3u8.loads((await client.fetch(variant.absolute_uri)).decode(), uri=variant.absolute_uri)
        assert playlist.is_endlist
        path = directory / f"{variant.uri.split('/')[0]}.ts"
        with path.open("wb") as file:
            for segment in playlist.segments:
                file.write(await client.fetch(segment.absolute_uri))
        lengths = [segment.duration for segment in playlist.segments]
        starts = [sum(lengths[:number]) for number in range(len(lengths))]
        found[path.stem] = Rendition(path, *variant.stream_info.resolution, starts)
    return found


def read_shown(rendition: Rendition) -> list[int]:
    """Return the number in each decoded frame, -1 where it cannot be read; decoding must be flawless."""
    rows = 16
    run = ["ffmpeg", "-v", "error", "-i", str(rendition.path), "-map", "0:v", "-fps_mode", "passthrough"]
    run += [
        "-enc_time_base",
        f"1:{TICKS}",
        "-vf",
        f"crop=iw:{rows}:0:(ih-{rows})/2",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "gray",
        "-",
    ]
    done = subprocess.run(run, check=True, capture_output=True)
    assert done.stderr.decode() == ""
    frames = np.frombuffer(done.stdout, np.uint8).reshape(-1, rows, rendition.width)
    centres = ((np.arange(BITS) + 0.5) * rendition.width / BITS).astype(int)
    blocks = np.stack([frames[:, :, x - 2 : x + 3].mean(axis=(1, 2)) for x in centres], axis=1)
    numbers = (blocks > BRIGHT) @ (1 << np.arange(BITS - 1, -1, -1))
    is_mixed = ((blocks > DARK) & (blocks <= BRIGHT)).any(axis=1)
    return [int(number) for number in np.where(is_mixed, -1, numbers)]


@dataclass(frozen=True)
class Pictures:
    """The analysis of frames; `late_seconds` is the largest deviation in time."""

    frames: int
    missing: int
    doubled: int
    out_of_order: int
    unknown: int
    held: int
    late_seconds: float
    step_seconds: float


def judge_pictures(rendition: Rendition, times: Sequence[float], *, may_hold: bool) -> Pictures:
    """Compare the frames of a rendition with when each was shown in the source.

    On a finer grid than the source's a picture is held for several frames (`may_hold`).
    """
    shown = read_shown(rendition)
    ticks = read_times(rendition.path, "v:0")
    assert len(ticks) == len(shown)
    assert max(np.diff(ticks)) - min(np.diff(ticks)) <= 1, "frames are equally far apart"
    changes = [number for number, _ in groupby(shown)]
    order = changes if may_hold else shown
    first = {
        number: (tick - ticks[0]) / TICKS
        for number, tick in zip(reversed(shown), reversed(ticks), strict=True)
    }
    strays = [abs(first[number] - time) for number, time in enumerate(times) if number in first]
    return Pictures(
        frames=len(shown),
        missing=len(set(range(len(times))) - set(shown)),
        doubled=len(order) - len(set(order)),
        out_of_order=sum(after < before for before, after in pairwise(shown)),
        unknown=sum(not 0 <= number < len(times) for number in shown),
        held=len(shown) - len(order),
        late_seconds=max(strays),
        step_seconds=(ticks[-1] - ticks[0]) / TICKS / (len(ticks) - 1),
    )


@dataclass(frozen=True)
class Sound:
    """The analysis of the tone: phase steps in degrees, `weakest` relative to the median."""

    seconds: float
    join_step: float
    other_step: float
    drift_ms: float
    offset_ms: float
    weakest: float


def judge_sound(rendition: Rendition, tone_seconds: float, joins: Sequence[float]) -> Sound:
    """Compare the sound with the ideal sine that begins with the first picture.

    `joins` are the seconds at which a chunk begins. Packets must follow each other without gap or overlap.
    """
    ticks = read_times(rendition.path, "a:0")
    a_frame = AAC_FRAME * TICKS // RATE
    assert ticks == list(range(ticks[0], ticks[0] + a_frame * len(ticks), a_frame))
    sound = read_sound(rendition.path)
    assert len(sound) == len(ticks) * AAC_FRAME
    begins = (ticks[0] - read_times(rendition.path, "v:0")[0]) / TICKS
    edge = int(EDGE_SECONDS * RATE)
    end = int((tone_seconds - begins - EDGE_SECONDS) * RATE)
    tone = _Tone.hear(sound[edge:end], begins + edge / RATE)
    near = tone.is_near(joins)
    return Sound(
        seconds=len(sound) / RATE,
        join_step=float(tone.steps[near].max()),
        other_step=float(tone.steps[~near].max()),
        drift_ms=float(np.ptp(tone.leads_ms)),
        offset_ms=float(tone.leads_ms.mean()),
        weakest=tone.weakest,
    )


@dataclass(frozen=True)
class _Tone:
    """A tone against the ideal: phase steps from window to window in degrees, its lead second by second."""

    begins: float
    steps: NDArray[np.float32]
    leads_ms: NDArray[np.float32]
    weakest: float

    @classmethod
    def hear(cls, sound: NDArray[np.float32], begins: float) -> _Tone:
        seen = tone_at(sound, WINDOW, HOP) * np.exp(-2j * np.pi * TONE_HZ * begins)
        apart, a_second = WINDOW // HOP, RATE // HOP
        leads = np.unwrap(np.angle(seen))[: len(seen) // a_second * a_second].reshape(-1, a_second)
        strength = np.abs(seen)
        return cls(
            begins=begins,
            steps=np.degrees(np.abs(np.angle(seen[apart:] / seen[:-apart]))),
            leads_ms=leads.mean(axis=1) / (2 * np.pi) * 1000 / TONE_HZ,
            weakest=float(strength.min() / np.median(strength)),
        )

    def is_near(self, joins: Sequence[float]) -> NDArray[np.bool_]:
        """Tell for each step whether it is at a join."""
        places = np.arange(len(self.steps)) * HOP + WINDOW
        starts = (np.asarray(joins) - self.begins) * RATE
        return (np.abs(places[:, None] - starts[None, :]) <= NEAR_JOIN).any(axis=1)
