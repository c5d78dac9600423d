"""A source open for reading: a file on the work volume, or this node's copy of an object."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from uuid import UUID

    from services.transcoder.byte_spans import Span


class OpenedSource(Protocol):
    """A source as a file, in which only requested parts need to be present."""

    @property
    def path(self) -> Path: ...

    @property
    def is_remote(self) -> bool:
        """Whether parts have to be requested."""
        ...

    async def is_whole(self) -> bool:
        """Tell whether all parts are present."""
        ...

    async def need(self, spans: Iterable[Span]) -> None:
        """Fetch these parts if missing. Raises OutOfDisk, SourceFetchFailed, WorkVolumeUnavailable."""
        ...

    async def need_all(self) -> None:
        """Fetch all missing parts; raises like `need`."""
        ...

    def joined(self, spans: Iterable[Span]) -> AbstractAsyncContextManager[Path]:
        """Yield a file with only these parts, concatenated; raises like `need`."""
        ...


class Originals(Protocol):
    """The originals of videos, wherever they are stored."""

    async def fetch(self, video_id: UUID, uri: str) -> object:
        """Make the original available to all transcoders. Raises errors of shared/errors/sources.py."""
        ...

    async def size(self, video_id: UUID, uri: str) -> int | None:
        """Return the size of an original in bytes; None if it does not exist."""
        ...

    def open(self, video_id: UUID, uri: str) -> AbstractAsyncContextManager[OpenedSource]:
        """Open an original that was fetched. Raises OriginalMissing."""
        ...


@dataclass(frozen=True)
class LocalSource:
    """A complete local file."""

    path: Path
    is_remote: bool = False

    async def is_whole(self) -> bool:
        """Return True."""
        return True

    async def need(self, spans: Iterable[Span]) -> None:
        """Do nothing."""

    async def need_all(self) -> None:
        """Do nothing."""

    @asynccontextmanager
    async def joined(self, spans: Iterable[Span]) -> AsyncIterator[Path]:  # noqa: ARG002 - all parts are present
        """Yield the file itself."""
        yield self.path
