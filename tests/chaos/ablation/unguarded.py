"""Runs a service without one of its guards: `python -m tests.chaos.ablation.unguarded GUARD SERVICE`.

The product has no switch that would take a guard away, so this program replaces the one function that is
the guard, and then runs the service as its own program does. It is the only place where code of tests/chaos
imports the product.
"""

from __future__ import annotations

import asyncio
import os
import runpy
import sys
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from services.ingest.uploads import accept
from services.uploader.handlers.store_chunk import StoreChunkHandler
from services.uploader.maintenance import orphans
from services.uploader.maintenance.reconcile import Reconciler
from shared import videos
from shared.contracts.cloudevents import envelope
from shared.messaging import queues
from shared.messaging.connection import BrokerLink
from shared.messaging.outbox import Outbox
from shared.messaging.publisher import Publisher
from shared.storage.s3.storage import S3Storage
from shared.videos.statements import sql

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from shared.contracts.events import Payload

LATER_SECONDS = 2.0
FINISH_ANY_ATTEMPT = """
update chunks set status = 'encoded', lease_until = null, progress = 1, codecs = $3
where video_id = $1 and chunk = $2"""


def without_commit_first() -> None:
    """Answer an upload with 202, and commit its record a while later."""
    guarded = accept._commit
    waiting: set[asyncio.Task[None]] = set()

    async def later(*arguments: Any) -> None:
        await asyncio.sleep(LATER_SECONDS)
        await guarded(*arguments)

    async def commit(outbox: Outbox, admission: Any, event: Any, title: str | None) -> Any:
        with suppress(_RolledBack):
            async with outbox.database.transaction() as connection:
                await videos.accept(connection, event, title=title)
                video = await videos.get(connection, event.video_id)
                raise _RolledBack
        waiting.add(asyncio.create_task(later(outbox, admission, event, title)))
        return video

    _replace(accept, "_commit", commit)


class _RolledBack(Exception):
    """A transaction was only made to see what it would do."""


def without_fence() -> None:
    """Let an attempt commit what it encoded, whoever has the chunk's claim now."""

    async def finish_chunk(connection: Any, *, video_id: Any, chunk: int, attempt: int, codecs: Any) -> str:
        return str(await connection.execute(FINISH_ANY_ATTEMPT, video_id, chunk, codecs))

    _replace(sql, "finish_chunk", finish_chunk)


def without_state_guard() -> None:
    """Let every uploader that has written the playlists say that it was the one to finish the video."""
    guarded = videos.mark_ready

    async def mark_ready(connection: Any, stored: Any, *, run: int) -> bool:
        await guarded(connection, stored, run=run)
        return True

    _replace(videos, "mark_ready", mark_ready)


def without_undoing() -> None:
    """Let an uploader leave in storage what it put for a video that was deleted meanwhile."""

    async def tidy(self: StoreChunkHandler, video_id: Any) -> None:
        return

    _replace(StoreChunkHandler, "_tidy", tidy)


def without_outbox() -> None:
    """Publish each message directly, as soon as its transaction has committed."""
    written: ContextVar[list[Payload]] = ContextVar("written")
    publisher = Publisher(BrokerLink(os.environ["RABBITMQ_URL"], "directly"))
    sending: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def transaction(self: Outbox) -> AsyncIterator[Any]:
        written.set([])
        async with self.database.transaction() as connection:
            yield connection
        for payload in written.get():
            event = envelope(payload, source=self.source)
            sending.add(asyncio.create_task(publisher.publish(payload.exchange, payload.routing_key, event)))

    async def add(self: Outbox, connection: Any, payload: Payload) -> None:
        written.get().append(payload)

    _replace(Outbox, "transaction", transaction)
    _replace(Outbox, "add", add)


def without_late_acknowledgement() -> None:
    """Acknowledge a message as it is taken, before anything is done about it."""
    guarded = queues.pull

    async def pull(*arguments: Any) -> Any:
        pulled = await guarded(*arguments)
        if pulled is not None:
            await queues.acknowledge(pulled[1])
        return pulled

    _replace(queues, "pull", pull)


def without_reconciler() -> None:
    """Never look for videos of which nothing is heard."""

    async def look(self: Reconciler) -> None:
        return

    _replace(Reconciler, "look", look)


def without_size_check() -> None:
    """Believe S3 that it has kept all of what it took."""

    async def verify(self: S3Storage, key: str, size: int) -> int:
        return size

    _replace(S3Storage, "_verify", verify)


def without_holding() -> None:
    """Let a sweep take an upload that is on its way to a record for one of a process that died."""

    def is_held(path: Path) -> bool:
        return False

    _replace(orphans, "is_held", is_held)


def _replace(owner: Any, name: str, function: Callable[..., Any]) -> None:
    """Put `function` in the place of the guard, which has to be there."""
    assert hasattr(owner, name), f"{owner} has no {name}: nothing would be on trial"
    setattr(owner, name, function)


GUARDS: dict[str, Callable[[], None]] = {
    "commit-first": without_commit_first,
    "fence": without_fence,
    "state-guard": without_state_guard,
    "undoing": without_undoing,
    "outbox": without_outbox,
    "late-acknowledgement": without_late_acknowledgement,
    "reconciler": without_reconciler,
    "size-check": without_size_check,
    "holding": without_holding,
}


def main() -> None:
    """Take the guard away and run the service as its own program does."""
    guard, service = sys.argv[1:]
    GUARDS[guard]()
    del sys.argv[1:]
    runpy.run_module(f"services.{service}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
