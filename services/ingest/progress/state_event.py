"""The state of a video in server-sent events; pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from services.ingest.models import VideoError, VideoProgress

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    import asyncpg

    from shared.videos import Status

RETRY_MILLISECONDS = 2000


@dataclass(frozen=True)
class VideoState:
    """The changing part of a video; `progress` is from 0 to 1."""

    video_id: UUID
    revision: int
    status: Status
    stage: str
    progress: float
    playable: bool
    error: dict[str, Any] | None

    @classmethod
    def of(cls, values: Mapping[str, Any] | asyncpg.Record) -> Self:
        """Create the state from a row or from the fields of a video."""
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})

    @property
    def event_id(self) -> str:
        """Identify the state: equal ids mean no change."""
        return f"{self.revision}-{self.stage}-{self.progress * 10000:.0f}-{int(self.playable)}"

    @property
    def event_name(self) -> str:
        return "progress" if self.status == "processing" else self.status

    @property
    def is_terminal(self) -> bool:
        """Whether the state is final unless the video is retried."""
        return self.status != "processing"

    def to_event(self) -> bytes:
        """Return the server-sent event (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
        data = json.dumps(self._progress().to_json(), separators=(",", ":"))
        return f"id: {self.event_id}\nevent: {self.event_name}\ndata: {data}\n\n".encode()

    def _progress(self) -> VideoProgress:
        return VideoProgress(
            video_id=self.video_id,
            status=self.status,
            stage=self.stage,
            progress=self.progress,
            playable=self.playable,
            error=VideoError.model_validate(self.error) if self.error else None,
        )


def retry_hint() -> bytes:
    """Return the line that tells a client when to reconnect."""
    return f"retry: {RETRY_MILLISECONDS}\n\n".encode()
