"""When and how often an error is retried."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.errors import PermanentError, StorageRefused, WorkerLost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.errors import PipelineError

MAX_DELAY_SECONDS = 300.0
MAX_PATIENT_DELAY_SECONDS = 60.0
MAX_DELIVERIES = 8  # far below the 20 after which RabbitMQ 4 drops a message of a quorum queue
FINAL = (PermanentError, WorkerLost, StorageRefused)  # an early retry changes nothing


@dataclass(frozen=True)
class RetryPolicy:
    """How errors of one route are retried.

    A transient error gets `attempts` in total; None: unlimited. An error class in `patience` is retried for
    that many seconds instead, regardless of the number of attempts. A message that was delivered
    `max_deliveries` times without being acknowledged has killed its workers.
    """

    attempts: int | None
    first_delay_seconds: float
    patience: Mapping[type[PipelineError], float] = field(default_factory=dict)
    max_deliveries: int = MAX_DELIVERIES

    def delay_seconds(self, attempt: int) -> float:
        """Return the delay after failure `attempt` (from 1): doubling, up to MAX_DELAY_SECONDS."""
        return min(self.first_delay_seconds * 2.0 ** min(attempt - 1, 30), MAX_DELAY_SECONDS)

    def patient_delay_seconds(self, waited_seconds: float) -> float:
        """Return the delay for an error that has lasted `waited_seconds`: a quarter of it, within limits."""
        return max(self.first_delay_seconds, min(waited_seconds / 4, MAX_PATIENT_DELAY_SECONDS))

    def patience_seconds(self, error: PipelineError) -> float | None:
        """Return how long to retry an error; None when its attempts are counted instead."""
        named = [kind for kind in self.patience if isinstance(error, kind)]
        return self.patience[max(named, key=lambda kind: len(kind.__mro__))] if named else None

    def gives_up(self, error: PipelineError, attempt: int) -> bool:
        """Tell whether failure `attempt` (from 1) is the last one."""
        return self.attempts is not None and (isinstance(error, FINAL) or attempt >= self.attempts)
