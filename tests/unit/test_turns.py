from __future__ import annotations

import asyncio

from shared.database.fair_slots import SHARE, Turns


async def hold(turns, share, order, release):
    SHARE.set(share)
    async with turns.turn():
        order.append(share)
        await release.wait()


async def test_each_share_gets_its_turn_however_many_waiters_another_has():
    turns, order, release = Turns(1), [], asyncio.Event()
    crowd = [asyncio.create_task(hold(turns, "mallory", order, release)) for _ in range(5)]
    await asyncio.sleep(0)
    late = asyncio.create_task(hold(turns, "bob", order, release))
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(*crowd, late)
    assert order.index("bob") <= 2
    assert len(order) == 6


async def test_a_cancelled_waiter_takes_no_slot():
    turns, order, release = Turns(1), [], asyncio.Event()
    first = asyncio.create_task(hold(turns, "a", order, release))
    await asyncio.sleep(0)
    gone = [asyncio.create_task(hold(turns, share, order, release)) for share in ("a", "b")]
    await asyncio.sleep(0)
    for task in gone:
        task.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    release.set()
    await first
    async with asyncio.timeout(5), turns.turn():
        assert order == ["a"]


async def test_a_slot_given_to_a_waiter_that_leaves_is_passed_on():
    turns, order, release = Turns(1), [], asyncio.Event()
    release.set()
    async with turns.turn():
        leaving = asyncio.create_task(hold(turns, "a", order, release))
        await asyncio.sleep(0)
    leaving.cancel()  # it has the slot, and does not know it yet
    await asyncio.gather(leaving, return_exceptions=True)
    async with asyncio.timeout(5), turns.turn():
        assert order == []
