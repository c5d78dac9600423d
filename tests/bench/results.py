"""What the benchmark found, as values: contenders, ratios, and whether the aims are met."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.bench.measure import Usage

OURS: Final = "ours"
BEFORE: Final = "before"
IN_TURN: Final = "per_rendition_in_turn"
AT_ONCE: Final = "per_rendition_at_once"
LIMIT: Final = "limit"
SHAKA: Final = "shaka_as_shipped"
SHAKA_OUR_PRESET: Final = "shaka_our_preset"
TITLES: Final = {
    OURS: "this pipeline",
    BEFORE: "this pipeline, another version",
    IN_TURN: "ffmpeg a rendition, in turn",
    AT_ONCE: "ffmpeg a rendition, at once",
    LIMIT: "limit: bare encodes",
    SHAKA_OUR_PRESET: "Shaka Streamer, our preset",
    SHAKA: "Shaka Streamer as shipped",
}

WALL_AIM: Final = 0.75
BEFORE_CPU_AIM: Final = 0.80
CPU_AIM: Final = 1.08
SHAKA_CPU_AIM: Final = 0.9
SHAKA_AIM: Final = 1.0
FIXED_AIM_SECONDS: Final = 2.0
FIRST_PLAYABLE_AIM: Final = 0.03
LONG_SECONDS: Final = 600


@dataclass(frozen=True, slots=True)
class Quality:
    """One rendition: its real picture bit rate, and how near it is to the source (dB; 0 to 1)."""

    rendition: str
    frames: int
    video_bps: int
    psnr_db: float
    ssim: float


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one contender on one source; `error` is its last output when it failed."""

    name: str
    usage: Usage | None = None
    renditions: tuple[Quality, ...] = ()
    commands: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure with an aim; `is_met` is None where either side is missing or the aim does not apply."""

    name: str
    value: float | None
    aim: str
    is_met: bool | None


def ratios(results: Iterable[Result], source_seconds: float) -> list[Ratio]:
    """Return every ratio of one source."""
    usages = {result.name: result.usage for result in results if result.usage and not result.error}
    wall = {name: usage.wall_seconds for name, usage in usages.items()}
    cpu = {name: usage.cpu_seconds for name, usage in usages.items()}
    best = min((wall[name] for name in (IN_TURN, AT_ONCE) if name in wall), default=None)
    return [
        _at_most("wall: ours / better of one process a rendition", _over(wall.get(OURS), best), WALL_AIM),
        _at_most(
            "CPU: ours / another version of ours", _over(cpu.get(OURS), cpu.get(BEFORE)), BEFORE_CPU_AIM
        ),
        _at_most("CPU: ours / limit", _over(cpu.get(OURS), cpu.get(LIMIT)), CPU_AIM),
        _at_most(
            "CPU: ours / Shaka Streamer with our former preset",
            _over(cpu.get(OURS), cpu.get(SHAKA_OUR_PRESET)),
            SHAKA_CPU_AIM,
        ),
        _below("wall: ours / Shaka Streamer as shipped", _over(wall.get(OURS), wall.get(SHAKA)), SHAKA_AIM),
        _below(
            "wall: ours / Shaka Streamer with our preset",
            _over(wall.get(OURS), wall.get(SHAKA_OUR_PRESET)),
            SHAKA_AIM,
        ),
        first_playable(usages.get(OURS), source_seconds),
    ]


def fixed_cost(results: Iterable[Result]) -> list[Ratio]:
    """Return what the conversion of a clip with tiny pictures takes."""
    found = (result.usage.cpu_seconds for result in results if result.name == OURS and result.usage)
    return [_at_most("CPU seconds: ours", next(found, None), FIXED_AIM_SECONDS)]


def first_playable(usage: Usage | None, source_seconds: float) -> Ratio:
    """Return the time to first playback as a share of the whole; only assessed for long sources."""
    value = _over(usage.first_playable_seconds, usage.wall_seconds) if usage else None
    is_met = value < FIRST_PLAYABLE_AIM if value is not None and source_seconds >= LONG_SECONDS else None
    aim = f"< {FIRST_PLAYABLE_AIM:.0%} from {LONG_SECONDS} s on"
    return Ratio("time to first playback / wall", value, aim, is_met)


def _over(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _at_most(name: str, value: float | None, aim: float) -> Ratio:
    return Ratio(name, value, f"<= {aim:.2f}", None if value is None else value <= aim)


def _below(name: str, value: float | None, aim: float) -> Ratio:
    return Ratio(name, value, f"< {aim:.2f}", None if value is None else value < aim)


def as_json(value: Any) -> Any:
    """Return a value of this module as `json` can write it, figures rounded to the measured precision."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {name: as_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    return as_json(asdict(value)) if hasattr(value, "__dataclass_fields__") else value
