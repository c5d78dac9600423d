"""The judge: looks at storage, database, broker and files, and knows nothing of the code that filled them."""

from __future__ import annotations

from tests.chaos.invariants.recorder import Recorder
from tests.chaos.invariants.run import judge
from tests.chaos.invariants.servers import Facts
from tests.chaos.invariants.values import Accepted, Expected, Finding, Verdict

__all__ = ["Accepted", "Expected", "Facts", "Finding", "Recorder", "Verdict", "judge"]
