"""RabbitMQ in memory: what BrokerLink, Publisher and Consumer use of aio-pika, without a server."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from aio_pika.exceptions import DeliveryError

if TYPE_CHECKING:
    import aio_pika


@dataclass
class MemoryBroker:
    """Queues with their messages; `unanswered` are messages that were pulled and are not answered yet.

    While it `is_away` every call fails, and open connections stay lost.
    """

    queues: dict[str, deque[MemoryMessage]] = field(default_factory=dict)
    bindings: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    unanswered: list[MemoryMessage] = field(default_factory=list)
    connections: list[MemoryConnection] = field(default_factory=list)
    is_away: bool = False

    async def connect(self, _url: str, **_properties: Any) -> MemoryConnection:
        """Stand in for aio_pika.connect."""
        self.expect()
        self.connections.append(MemoryConnection(self))
        return self.connections[-1]

    def expect(self) -> None:
        """Raise aio-pika's error for an unavailable server."""
        if self.is_away:
            for connection in self.connections:
                connection.is_closed = True
            raise ConnectionResetError("the broker is unavailable")

    def bodies(self, queue: str) -> list[bytes]:
        """Return the bodies of the messages that wait in a queue."""
        return [message.body for message in self.queues.get(queue, ())]


@dataclass
class MemoryConnection:
    broker: MemoryBroker
    is_closed: bool = False

    async def channel(self, **_options: Any) -> MemoryChannel:
        self.broker.expect()
        return MemoryChannel(self)

    async def close(self) -> None:
        """Close; unacknowledged messages return to their queues, marked as redelivered."""
        self.broker.expect()
        self.is_closed = True
        for message in [each for each in self.broker.unanswered if each.connection is self]:
            await message.nack(requeue=True)


@dataclass
class MemoryChannel:
    connection: MemoryConnection

    @property
    def broker(self) -> MemoryBroker:
        return self.connection.broker

    @property
    def is_closed(self) -> bool:
        return self.connection.is_closed

    @property
    def default_exchange(self) -> MemoryExchange:
        return MemoryExchange(self.broker, "")

    async def declare_exchange(self, name: str, *_kind: Any, **_options: Any) -> MemoryExchange:
        self.broker.expect()
        return MemoryExchange(self.broker, name)

    async def get_exchange(self, name: str, *, ensure: bool) -> MemoryExchange:
        return MemoryExchange(self.broker, name)

    async def declare_queue(self, name: str, **_options: Any) -> MemoryQueue:
        self.broker.expect()
        self.broker.queues.setdefault(name, deque())
        return MemoryQueue(self.connection, name)

    async def get_queue(self, name: str, *, ensure: bool) -> MemoryQueue:
        return MemoryQueue(self.connection, name)


@dataclass
class MemoryExchange:
    broker: MemoryBroker
    name: str

    async def publish(
        self, message: aio_pika.Message, routing_key: str, *, mandatory: bool, **_limits: Any
    ) -> None:
        """Put a message into every queue that is bound for it."""
        self.broker.expect()
        bound = self.broker.bindings.get((self.name, routing_key), set())
        targets = {routing_key} & self.broker.queues.keys() if not self.name else bound
        if mandatory and not targets:
            raise DeliveryError(None, None)  # type: ignore[arg-type]
        for queue in targets:
            self.broker.queues[queue].append(MemoryMessage(self.broker, queue, message, self.name))


@dataclass
class MemoryQueue:
    connection: MemoryConnection
    name: str

    @property
    def declaration_result(self) -> SimpleNamespace:
        return SimpleNamespace(message_count=len(self.connection.broker.queues[self.name]))

    async def bind(self, exchange: MemoryExchange, routing_key: str) -> None:
        self.connection.broker.bindings.setdefault((exchange.name, routing_key), set()).add(self.name)

    async def get(self, **_options: Any) -> MemoryMessage | None:
        broker = self.connection.broker
        broker.expect()
        if not broker.queues[self.name]:
            return None
        message = broker.queues[self.name].popleft()
        message.connection = self.connection
        broker.unanswered.append(message)
        return message


@dataclass(eq=False)
class MemoryMessage:
    """A message in a queue, or pulled from it."""

    broker: MemoryBroker
    queue: str
    sent: aio_pika.Message
    exchange: str = ""
    connection: MemoryConnection | None = None
    deliveries: int = 0

    @property
    def body(self) -> bytes:
        return self.sent.body

    @property
    def content_type(self) -> str | None:
        return self.sent.content_type

    @property
    def redelivered(self) -> bool:
        return self.deliveries > 0

    @property
    def headers(self) -> dict[str, Any]:
        again = {"x-delivery-count": self.deliveries} if self.deliveries else {}
        return {**self.sent.headers, **again}

    async def ack(self) -> None:
        self.broker.expect()
        self.broker.unanswered.remove(self)

    async def nack(self, *, requeue: bool) -> None:
        self.broker.expect()
        self.broker.unanswered.remove(self)
        self.deliveries += 1
        if requeue:
            self.broker.queues[self.queue].appendleft(self)
