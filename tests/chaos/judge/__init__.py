"""The judge: looks at storage, database, broker and files, and knows nothing of the code that filled them."""

from __future__ import annotations

from tests.chaos.judge.court import judge
from tests.chaos.judge.facts import Facts
from tests.chaos.judge.recorder import Recorder
from tests.chaos.judge.values import Accepted, Expected, Finding, Verdict

__all__ = ["Accepted", "Expected", "Facts", "Finding", "Recorder", "Verdict", "judge"]
