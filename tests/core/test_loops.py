"""The event bus and the reconcile loop."""

from __future__ import annotations

import asyncio

import pytest
from specola.core.events import RESYNC, Bus
from specola.core.reconcile import Reconciler


async def taken(subscription: object, count: int) -> list[object]:
    return [await asyncio.wait_for(anext(subscription), 60) for _ in range(count)]  # type: ignore[call-overload]


async def test_ids_increase_also_over_a_restart() -> None:
    first = Bus()
    ids = [first.publish(None, "notice", {}).id for _ in range(100)]
    assert ids == sorted(set(ids))
    await asyncio.sleep(0.001)
    assert Bus().last_id > ids[-1]


async def test_resume_gives_what_was_missed_and_nothing_of_others() -> None:
    bus = Bus()
    start = bus.last_id
    bus.publish("anna", "a", {})
    bus.publish("bob", "b", {})
    bus.publish(None, "c", {})
    with bus.subscribe("anna", start) as mine:
        assert [e.type for e in await taken(mine, 2)] == ["a", "c"]  # type: ignore[attr-defined]
    assert not bus._subscriptions


async def test_resume_from_too_long_ago_or_from_the_future_is_a_resync() -> None:
    bus = Bus(kept=3)
    ids = [bus.publish("anna", "a", {"n": n}).id for n in range(5)]
    with bus.subscribe("anna", ids[0]) as mine:
        assert [e.type for e in await taken(mine, 1)] == [RESYNC]  # type: ignore[attr-defined]
    with bus.subscribe("anna", ids[1]) as mine:
        assert [e.data["n"] for e in await taken(mine, 3)] == [2, 3, 4]  # type: ignore[attr-defined]
    with bus.subscribe("anna", ids[-1] + 10**9) as mine:
        assert [e.type for e in await taken(mine, 1)] == [RESYNC]  # type: ignore[attr-defined]


async def test_a_reader_that_does_not_keep_up_is_dropped_with_a_resync() -> None:
    bus = Bus(behind=3)
    mine = bus.subscribe("anna")
    for _ in range(10):
        bus.publish("anna", "a", {})
    assert [event.type async for event in mine] == [RESYNC]
    assert not bus._subscriptions


async def test_a_loop_never_dies_and_tries_ever_more_rarely() -> None:
    seen: list[int] = []

    async def step() -> None:
        seen.append(1)
        if len(seen) < 4:
            raise RuntimeError("not yet")

    loop = Reconciler("test", step, period=0.001)
    loop.start()
    while len(seen) < 6:  # noqa: ASYNC110 - the loop under test has no other sign
        await asyncio.sleep(0.005)
    await loop.stop()
    await loop.stop()
    assert loop.failures == 0
    slow = Reconciler("test", step, period=10, longest_pause=60)
    slow.failures = 16
    assert 54 <= slow.pause() <= 66


async def test_a_loop_wakes_up_when_asked() -> None:
    done = asyncio.Event()

    async def step() -> None:
        done.set()

    loop = Reconciler("test", step, period=1000)
    loop.start()
    await asyncio.wait_for(done.wait(), 60)
    done.clear()
    await asyncio.sleep(0.01)
    loop.wake()
    await asyncio.wait_for(done.wait(), 60)
    await loop.stop()


@pytest.mark.parametrize("failures", [0, 1, 3])
async def test_the_pause_doubles_with_each_failure(failures: int) -> None:
    async def step() -> None:
        return None

    loop = Reconciler("test", step, period=10)
    loop.failures = failures
    assert 9 * 2**failures <= loop.pause() <= 11 * 2**failures
