"""A storing lease is renewed while there is progress, not while waiting."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from services.uploader.handlers import store_lease
from services.uploader.handlers.store_lease import Progress, StoreLease

if TYPE_CHECKING:
    import pytest


class Counted(StoreLease):
    """A lease that only counts its renewals."""

    renewals: list[int]

    async def renew(self, job: Any) -> None:
        self.renewals.append(1)


def counted() -> Counted:
    lease = Counted(None, 0.05)  # type: ignore[arg-type]
    object.__setattr__(lease, "renewals", [])
    return lease


async def test_lease_is_renewed_while_objects_are_put() -> None:
    lease, progress = counted(), Progress()
    assert await lease.hold(None, asyncio.sleep(0.2, "done"), progress) == "done"  # type: ignore[arg-type]
    assert len(lease.renewals) > 5


async def test_lease_is_renewed_no_longer_when_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_lease, "STANDSTILL_SECONDS", 0.1)
    lease, progress = counted(), Progress()

    async def put() -> None:
        await asyncio.sleep(0.25)
        silent = len(lease.renewals)
        await asyncio.sleep(0.1)
        assert len(lease.renewals) == silent
        progress.note()
        await asyncio.sleep(0.08)
        assert len(lease.renewals) > silent

    await lease.hold(None, put(), progress)  # type: ignore[arg-type]
