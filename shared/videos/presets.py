"""The presets that ladders are made from, and each user's default qualities."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from shared.database.queries import all_rows
from shared.database.statements import presets as sql
from shared.errors import UnknownQuality

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from shared.database.pool import Connection


@dataclass(frozen=True)
class Preset:
    """A configured rung: short side in pixels, rates in bits per second.

    `quality` is a mean VMAF (None: the default); it is ignored with `rate_control` "abr".
    """

    name: str
    short_side: int
    video_bps: int
    audio_bps: int
    rate_control: Literal["quality", "abr"] = "quality"
    quality: float | None = None
    profile: Literal["speed", "balanced", "quality"] = "balanced"


async def all_presets(connection: Connection) -> tuple[Preset, ...]:
    """Return the presets, largest first."""
    return tuple(Preset(**dict(row)) for row in await all_rows(sql.all(connection)))


def ladder_to_json(presets: Sequence[Preset]) -> list[dict[str, Any]]:
    """Return presets in the form stored with a video."""
    return [asdict(preset) for preset in presets]


async def ladder_of(connection: Connection, video_id: UUID) -> tuple[Preset, ...]:
    """Return the presets that a video was accepted with; the current ones if none were stored."""
    kept = await sql.ladder_of(connection, video_id=video_id)
    return tuple(Preset(**values) for values in kept) if kept else await all_presets(connection)


async def replace_presets(connection: Connection, presets: Sequence[Preset]) -> None:
    """Replace all presets; takes effect for the next video that is planned."""
    await sql.lock(connection)
    await sql.clear(connection)
    await sql.insert(
        connection,
        names=[preset.name for preset in presets],
        short_sides=[preset.short_side for preset in presets],
        video_bps=[preset.video_bps for preset in presets],
        audio_bps=[preset.audio_bps for preset in presets],
        rate_controls=[preset.rate_control for preset in presets],
        qualities=[preset.quality for preset in presets],
        profiles=[preset.profile for preset in presets],
    )


async def preferences_of(connection: Connection, user_id: str) -> tuple[str, ...]:
    """Return a user's default qualities; empty means every preset.

    A quality whose preset was removed is skipped.
    """
    return tuple(await sql.preferences_of(connection, user_id=user_id) or ())


async def set_preferences(connection: Connection, user_id: str, qualities: Sequence[str]) -> None:
    """Set a user's default qualities; empty means every preset."""
    await sql.set_preferences(connection, user_id=user_id, qualities=list(qualities))


def check_qualities(presets: Sequence[Preset], qualities: Iterable[str]) -> None:
    """Raise UnknownQuality, naming the valid ones, unless every quality has a preset."""
    names = [preset.name for preset in presets]
    if unknown := [quality for quality in qualities if quality not in names]:
        raise UnknownQuality(f"no preset is named {', '.join(unknown)}; valid names: {', '.join(names)}")
