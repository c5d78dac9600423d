"""Maps exceptions of aio-pika to errors of the pipeline."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

import aiormq.exceptions
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError

from shared.errors import PipelineError, described

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_ANSWER = "RabbitMQ does not answer"

UNREACHABLE = (
    OSError,
    TimeoutError,
    AMQPError,
    aiormq.exceptions.AMQPError,
    ChannelInvalidStateError,
    RuntimeError,  # aio-pika: "connection was not opened", "writer is closed"
)


class BrokerUnavailable(PipelineError):
    """RabbitMQ did not answer, or did not accept the message."""

    reason = "broker_unavailable"


class MessageRefused(BrokerUnavailable):
    """RabbitMQ answers, but this message could not be routed or was rejected."""

    reason = "message_refused"


@contextmanager
def broker_faults(complaint: str) -> Iterator[None]:
    """Raise BrokerUnavailable for everything the client library raises when the broker does not answer.

    On missed heartbeats the library cancels whatever awaits the connection. Unmapped, that would look like a
    cancellation of our own task and end a loop silently.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise BrokerUnavailable(f"{complaint}: the connection is unresponsive") from error
    except UNREACHABLE as error:
        raise BrokerUnavailable(f"{complaint}: {described(error)}") from error
