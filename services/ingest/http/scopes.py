"""The scopes of API keys that may call an operation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from services.ingest.models import Scope

ANYONE_WITH_A_KEY: Final[frozenset[Scope]] = frozenset({"admin", "service", "user"})
ADMIN: Final[frozenset[Scope]] = frozenset({"admin"})
PLATFORMS: Final[frozenset[Scope]] = frozenset({"admin", "service"})
