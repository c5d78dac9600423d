"""Runs a service without one of its guards: `python -m tests.chaos.ablation.unguarded GUARD SERVICE`.

The product has no switch for this: the program replaces the one function that implements the guard, then
runs the service as usual. It is the only module in tests/chaos that imports the product.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import runpy
import sys
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from services.ingest.uploads import accept
from services.transcoder.handlers.encode_chunk import EncodeChunkHandler
from services.transcoder.handlers.leases import ChunkLease
from services.uploader.handlers import publish_video
from services.uploader.handlers.store_chunk import StoreChunkHandler
from services.uploader.maintenance.reconcile import Reconciler
from shared import videos
from shared.contracts.cloudevents import envelope
from shared.messaging import deliveries
from shared.messaging.connection import BrokerLink
from shared.messaging.outbox import Outbox
from shared.messaging.publisher import Publisher
from shared.videos.sql_results import sql
from shared.workspace import bucket, volume

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from shared.contracts.events import Payload

LATER_SECONDS = 2.0
FINISH_ANY_ATTEMPT = """
update chunks set status = 'encoded', lease_until = null, progress = 1, codecs = $3
where video_id = $1 and chunk = $2"""


def without_commit_first() -> None:
    """Answer an upload with 202, and commit its record later."""
    guarded = accept._commit
    waiting: set[asyncio.Task[None]] = set()

    async def later(*arguments: Any) -> None:
        await asyncio.sleep(LATER_SECONDS)
        await guarded(*arguments)

    async def commit(outbox: Outbox, admission: Any, incoming: Any, event: Any, terms: Any) -> Any:
        with suppress(_RolledBack):
            async with outbox.database.transaction() as connection:
                await videos.accept(connection, event, title=terms.title, ladder=terms.ladder)
                video = await videos.get(connection, event.video_id)
                raise _RolledBack
        waiting.add(asyncio.create_task(later(outbox, admission, incoming, event, terms)))
        return video

    _replace(accept, "_commit", commit)


class _RolledBack(Exception):
    """Rolls back a transaction that was run only for its result."""


def without_fence() -> None:
    """Let an attempt commit its chunk even when another holds the claim, and no renewal stop it before."""

    async def renew(self: ChunkLease, claim: Any) -> None:
        return

    async def finish_chunk(connection: Any, *, video_id: Any, chunk: int, attempt: int, codecs: Any) -> str:
        return str(await connection.execute(FINISH_ANY_ATTEMPT, video_id, chunk, codecs))

    _replace(sql, "finish_chunk", finish_chunk)
    _replace(ChunkLease, "renew", renew)


def without_state_guard() -> None:
    """Let every uploader that has written the playlists report the video as finished by itself."""
    guarded = videos.mark_ready

    async def mark_ready(connection: Any, stored: Any, **facts: Any) -> bool:
        await guarded(connection, stored, **facts)
        return True

    _replace(videos, "mark_ready", mark_ready)


def without_undoing() -> None:
    """Let an uploader leave objects in storage that it put for a deleted video."""

    async def tidy(self: StoreChunkHandler, video_id: Any) -> None:
        return

    _replace(StoreChunkHandler, "tidy", tidy)


def without_outbox() -> None:
    """Publish each message directly after its transaction has committed."""
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
    """Acknowledge a message when it is pulled, before it is handled."""
    guarded = deliveries.pull

    async def pull(*arguments: Any) -> Any:
        pulled = await guarded(*arguments)
        if pulled is not None:
            await deliveries.acknowledge(pulled[1])
        return pulled

    _replace(deliveries, "pull", pull)


def without_reconciler() -> None:
    """Never check for stalled videos."""

    async def check_all(self: Reconciler) -> None:
        return

    _replace(Reconciler, "check_all", check_all)


def without_size_check() -> None:
    """Trust S3 to have stored everything it accepted."""

    async def disagreements(*_: Any) -> list[str]:
        return []

    async def confirm_master(*_: Any) -> None:
        return

    _replace(publish_video, "disagreements", disagreements)
    _replace(publish_video.VideoPublisher, "_confirm_master", confirm_master)


def without_holding() -> None:
    """Let a sweep treat an upload whose record is being committed as that of a dead process."""

    def is_held(path: Path) -> bool:
        return False

    def age_seconds(stored: Any) -> float:
        return float("inf")

    _replace(volume, "is_held", is_held)
    _replace(bucket, "_age_seconds", age_seconds)


def without_hand_over() -> None:
    """Let a transcoder record segments that are in its scratch alone."""

    async def hand_over(self: EncodeChunkHandler, files: Any) -> None:
        return

    _replace(EncodeChunkHandler, "_hand_over", hand_over)


def _replace(owner: Any, name: str, function: Callable[..., Any]) -> None:
    """Replace the guard, which must exist and take what `function` takes, by `function`."""
    assert hasattr(owner, name), f"{owner} has no {name}: there is no guard to remove"
    given, taken = (_parameters(each) for each in (getattr(owner, name), function))
    assert given is None or taken is None or given <= taken, f"{name} is called with {given}, not {taken}"
    setattr(owner, name, function)


def _parameters(function: Callable[..., Any]) -> set[str] | None:
    """Return the names of a function's parameters; None if it takes any."""
    found = inspect.signature(function).parameters.values()
    if any(each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in found):
        return None
    return {each.name for each in found} - {"self"}


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
    "hand-over": without_hand_over,
}


def main() -> None:
    """Remove the guard and run the service."""
    guard, service = sys.argv[1:]
    GUARDS[guard]()
    del sys.argv[1:]
    runpy.run_module(f"services.{service}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
