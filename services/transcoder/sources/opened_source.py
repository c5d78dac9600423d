"""A source that is open for reading: a file of the work volume, or this node's copy of an object."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from uuid import UUID

    from services.transcoder.spans import Span


class OpenedSource(Protocol):
    """A source as a file, in which only those parts need be present that were asked for."""

    @property
    def path(self) -> Path: ...

    @property
    def is_remote(self) -> bool:
        """Whether parts have to be asked for."""
        ...

    async def is_whole(self) -> bool:
        """Tell whether all parts are present."""
        ...

    async def need(self, spans: Iterable[Span]) -> None:
        """Have these parts in the file. Raises OutOfDisk, SourceFetchFailed, WorkVolumeUnavailable."""
        ...

    async def need_all(self) -> None:
        """Have all parts in the file; raises as `need` does."""
        ...

    def joined(self, spans: Iterable[Span]) -> AbstractAsyncContextManager[Path]:
        """Yield a file of these parts alone, one behind the other; raises as `need` does."""
        ...


class Originals(Protocol):
    """The originals of videos, wherever they lie."""

    async def fetch(self, video_id: UUID, uri: str) -> object:
        """Have the original where all transcoders can read it. Raises errors of shared/errors/sources.py."""
        ...

    async def size(self, video_id: UUID, uri: str) -> int | None:
        """Return the size of an original in bytes; None when there is none."""
        ...

    def open(self, video_id: UUID, uri: str) -> AbstractAsyncContextManager[OpenedSource]:
        """Open an original that was fetched. Raises OriginalMissing."""
        ...


@dataclass(frozen=True)
class LocalSource:
    """A file that is here, with all of its parts."""

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
    async def joined(self, spans: Iterable[Span]) -> AsyncIterator[Path]:  # noqa: ARG002 - all parts are there
        """Yield the file itself."""
        yield self.path
