"""The leases of the transcoder: on planning a video, and on encoding a chunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared import videos
from shared.failpoints import failpoint

if TYPE_CHECKING:
    from uuid import UUID

    from shared.messaging.outbox import Outbox
    from shared.videos import ChunkClaim, PlanClaim


class Progress:
    """The progress of one attempt, 0..1; set while encoding, stored with each renewal."""

    def __init__(self) -> None:
        self.fraction = 0.0

    def __call__(self, fraction: float) -> None:
        self.fraction = min(max(fraction, 0.0), 1.0)


@dataclass(frozen=True)
class PlanLease:
    """The lease on planning: fetching a source may take longer than the broker waits for an answer."""

    outbox: Outbox
    video_id: UUID
    seconds: float
    kind: str = "plan"
    what: str = "the planning"

    async def claim(self) -> PlanClaim:
        async with self.outbox.transaction() as connection:
            claim = await videos.claim_plan(connection, self.video_id, lease_seconds=self.seconds)
        failpoint("plan.claimed")
        return claim

    async def renew(self, claim: PlanClaim) -> None:
        async with self.outbox.database.transaction() as connection:
            await videos.renew_plan(connection, claim, lease_seconds=self.seconds)

    async def release(self, claim: PlanClaim) -> bool:
        async with self.outbox.transaction() as connection:
            return await videos.release_plan(connection, claim)


@dataclass(frozen=True)
class ChunkLease:
    """The lease on encoding a chunk; each renewal stores the progress."""

    outbox: Outbox
    video_id: UUID
    chunk: int
    seconds: float
    progress: Progress
    kind: str = "chunk"

    @property
    def what(self) -> str:
        return f"chunk {self.chunk}"

    async def claim(self) -> ChunkClaim:
        async with self.outbox.transaction() as connection:
            claim = await videos.claim_chunk(
                connection, self.video_id, self.chunk, lease_seconds=self.seconds
            )
        failpoint("encode.claimed")
        return claim

    async def renew(self, claim: ChunkClaim) -> None:
        async with self.outbox.database.transaction() as connection:
            progress = self.progress.fraction
            await videos.renew_chunk(connection, claim, progress=progress, lease_seconds=self.seconds)

    async def release(self, claim: ChunkClaim) -> bool:
        async with self.outbox.transaction() as connection:
            return await videos.release_chunk(connection, claim)
