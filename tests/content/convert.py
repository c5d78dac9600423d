"""Converts a source by planner and encoder, without services: its video in one file, and its warnings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.transcoder.content.check import DAMAGED
from services.transcoder.encode.chunk import encode_chunk
from services.transcoder.encode.select_encoder import Encoder
from services.transcoder.plan.ladder import Preset
from services.transcoder.plan.make_plan import make_plan
from shared.contracts.warnings import VideoWarning, WarningCode

if TYPE_CHECKING:
    from pathlib import Path

    from services.transcoder.content.check import Depth
    from services.transcoder.plan.model import Plan

OWN_SIZE: Final = (Preset("1080p", 1080, 8_000_000, 192_000),)  # for sources that are no larger
X264: Final = Encoder("libx264")


@dataclass(frozen=True)
class Converted:
    """A video, its plan, and the warnings that its record would have."""

    plan: Plan
    video: Path
    warnings: tuple[VideoWarning, ...]

    @property
    def codes(self) -> set[str]:
        return {str(warning.code) for warning in self.warnings}

    @property
    def size(self) -> tuple[int, int]:
        return self.plan.rungs[0].width, self.plan.rungs[0].height


async def convert(
    source: Path, folder: Path, *, check: Depth = "quick", segment_seconds: float = 4
) -> Converted:
    """Return the video of `source`, in chunks of up to two segments. Raises a SourceError."""
    plan = await make_plan(
        source, OWN_SIZE, segment_seconds=segment_seconds, chunk_seconds=2 * segment_seconds
    )
    warnings, path = [*plan.warnings], folder / "video.ts"
    with path.open("wb") as file:
        for chunk in plan.chunks:
            place = folder / f"chunk{chunk.index}"
            encoded = await encode_chunk(plan, chunk.index, source, place, X264, check=check)
            warnings += encoded.differences
            if encoded.has_gaps or encoded.is_held:
                warnings.append(VideoWarning(code=WarningCode.SOURCE_DAMAGED, message=DAMAGED))
            elif encoded.is_repaired and not encoded.differences:
                warnings.append(
                    VideoWarning(code=WarningCode.SLOWER_DECODING, message="read from an earlier point")
                )
            for segment in sorted(encoded.segments, key=lambda segment: segment.index):
                file.write(segment.path.read_bytes())
    return Converted(plan, path, tuple(warnings))
