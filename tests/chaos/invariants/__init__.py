"""Invariant checks of storage, database, broker and files, without any code of the product."""

from __future__ import annotations

from tests.chaos.invariants.recorder import Recorder
from tests.chaos.invariants.run import check_invariants
from tests.chaos.invariants.servers import Addresses
from tests.chaos.invariants.values import Accepted, Expected, Finding, Verdict

__all__ = ["Accepted", "Addresses", "Expected", "Finding", "Recorder", "Verdict", "check_invariants"]
