"""The caller of a request and its permissions; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import Forbidden, Unauthorized

if TYPE_CHECKING:
    from uuid import UUID

    from services.ingest.models import Scope

SYSTEM_USER = "system"  # owns uploads of admin and service keys without a user
BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/=-]{1,512})", re.IGNORECASE)


@dataclass(frozen=True)
class Caller:
    """The holder of an API key; `user_id` is None unless the scope is `user`."""

    key_id: UUID
    scope: Scope
    user_id: str | None

    @property
    def share(self) -> str:
        """Whose share of upload slots and disk space this caller uses: the user's, else the key's."""
        return f"user {self.user_id}" if self.user_id else f"key {self.key_id}"

    def may_see(self, user_id: str) -> bool:
        """Tell whether the caller may see what belongs to a user."""
        return self.scope != "user" or self.user_id == user_id

    def acts_for(self, user_id: str | None) -> str:
        """Return the user an upload belongs to. Raises Forbidden for another user."""
        if user_id is None:
            return self.user_id or SYSTEM_USER
        self.check_user(user_id)
        return user_id

    def check_user(self, user_id: str) -> None:
        """Raise Forbidden unless the caller may act for a user."""
        if not self.may_see(user_id):
            raise Forbidden(f"this key acts for {self.user_id} only")

    def check_scope(self, scopes: frozenset[Scope]) -> None:
        """Raise Forbidden unless the key has one of the scopes."""
        if self.scope not in scopes:
            raise Forbidden(f"this needs a key of scope {' or '.join(sorted(scopes))}")


def bearer_key(authorization: str | None) -> str:
    """Return the key in an Authorization header. Raises Unauthorized."""
    match = BEARER.fullmatch((authorization or "").strip())
    if not match:
        raise Unauthorized("send an API key: Authorization: Bearer <key>", sent_key=False)
    return match[1]
