"""Encodes a chunk from the parts of a source that it needs, or from the whole source if in doubt."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog

from services.transcoder.byte_spans import merged
from services.transcoder.encode.source_parts import PartsInDoubt
from shared.telemetry.metrics import WHOLE_SOURCES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from services.transcoder.byte_spans import Spans
    from services.transcoder.encode.encoded_chunk import EncodedChunk
    from services.transcoder.plan.model import Chunk, Plan
    from services.transcoder.sources.opened_source import OpenedSource

log = structlog.get_logger()


class Encode(Protocol):
    """Encodes a given chunk from the file at `path` (encode/chunk.py)."""

    async def __call__(self, path: Path, *, has_holes: bool) -> EncodedChunk: ...


class HoldsPackets(Protocol):
    """Tells whether a copy with only `spans` holds a chunk's packets (encode/source_parts.py)."""

    async def __call__(self, plan: Plan, chunk: Chunk, path: str, spans: Spans, /) -> bool: ...


@dataclass(frozen=True)
class EncodeParts:
    """Encodes chunks from sources that may be remote."""

    holds_packets: HoldsPackets

    async def __call__(self, source: OpenedSource, plan: Plan, chunk: Chunk, encode: Encode) -> EncodedChunk:
        """Encode `chunk`, fetching only the necessary parts of the source. Raises the errors of `encode`."""
        if source.is_remote and not await source.is_whole():
            encoded = await self._from_parts(source, plan, chunk, encode)
            if encoded is not None:
                return encoded
            WHOLE_SOURCES.labels("in_doubt" if chunk.reads else "unknown").inc()
            await source.need_all()
        return await encode(source.path, has_holes=False)

    async def _from_parts(
        self, source: OpenedSource, plan: Plan, chunk: Chunk, encode: Encode
    ) -> EncodedChunk | None:
        """Encode from the parts listed in the plan; None if the whole source is needed."""
        if chunk.reads is None or not plan.head:
            return None
        spans = merged([*plan.head, *chunk.reads.spans])
        async with _present(source, spans, is_searched=plan.is_searched) as path:
            if not await self.holds_packets(plan, chunk, str(path), spans):
                log.warning("source_parts_lack_packets", chunk=chunk.index)
                return None
            try:
                return await encode(path, has_holes=True)
            except PartsInDoubt as error:
                log.warning("source_parts_in_doubt", chunk=chunk.index, error=error.message)
                return None


@asynccontextmanager
async def _present(source: OpenedSource, spans: Spans, *, is_searched: bool) -> AsyncIterator[Path]:
    """Yield a file with these parts of the source; without holes if FFmpeg seeks by searching."""
    if is_searched:
        async with source.joined(spans) as path:
            yield path
    else:
        await source.need(spans)
        yield source.path
