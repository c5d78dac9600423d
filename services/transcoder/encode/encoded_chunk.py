"""The result of encoding a chunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.transcoder.command.video import EncoderName
    from services.transcoder.encode.verify import SegmentFile
    from shared.contracts.warnings import VideoWarning


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    """A chunk on disk: verified segments, the CODECS string of each rendition by name.

    `notes` explain, as in the record, why `encoder` is not the requested one. A repaired chunk was encoded by
    the tolerant strategy: held pictures or silence replace parts that cannot be decoded. If the content was
    checked, `differences` lists what is missing.
    """

    segments: tuple[SegmentFile, ...]
    codecs: Mapping[str, str]
    encoder: EncoderName
    decoded_on_gpu: bool = False
    is_repaired: bool = False
    is_held: bool = False
    has_gaps: bool = False
    notes: tuple[str, ...] = ()
    is_checked: bool = False
    differences: tuple[VideoWarning, ...] = ()
