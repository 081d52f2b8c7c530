"""Killed at any moment, the service goes on from what it wrote: no slice is lost, none is held twice.

Hypothesis draws what people do and where the service dies: before any commit, before and after any call that makes
or ends something. The world outside (cards, kernel workers, database) goes on; a new service is built over it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from specola.core.database import open_database
from specola.core.errors import PublicError
from specola.gpu.adapters.simulated import SimulatedActuator
from specola.gpu.api import Lease, Report, Saved
from specola.gpu.geometry import GpuModel
from specola.gpu.model import Actuator, Card, GroupGpu, Instance, Sample, SimulatedPool, Work
from specola.gpu.state import Slot
from specola.gpu.store import Held

from gpu.servicerig import FakeRunner, FakeServers, Rig, kernel

PEOPLE = ("anna", "bob", "carlo")
SHAPES = ("1g", "2g", "3g", "7g")
POOLS = {"a100": {"actuator": "simulated", "model": "A100-40GB", "cards": 1}}
USED = {"offered", "starting", "active", "expiring", "saving"}
FUSES = st.none() | st.integers(0, 14)


class Killed(BaseException):
    """The process ends here: nothing of ours catches it."""


class Fuse:
    """Blows after so many moments; from then on nothing at all is done."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.blown = False

    def burn(self) -> None:
        if self.left is not None:
            self.left -= 1
        if self.blown or (self.left is not None and self.left < 0):
            self.blown = True
            raise Killed


class FusedActuator:
    """Real simulated cards, with a moment before and after each change."""

    kind, simulated, controls_placement, granularity, latency = "simulated", True, True, "instance", 0.0

    def __init__(self, inner: SimulatedActuator, fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse

    async def cards(self) -> Sequence[Card]:
        self._fuse.burn()
        return await self._inner.cards()

    async def make(self, slot: Slot, shape: str, tag: str) -> Instance:
        self._fuse.burn()
        made = await self._inner.make(slot, shape, tag)
        await asyncio.sleep(0)
        self._fuse.burn()
        return made

    async def destroy(self, instance: Instance) -> None:
        self._fuse.burn()
        await self._inner.destroy(instance)
        await asyncio.sleep(0)
        self._fuse.burn()

    async def sample(self, instance: Instance) -> Sample:
        self._fuse.burn()
        return await self._inner.sample(instance)

    def environment(self, instance: Instance) -> Mapping[str, str]:
        return self._inner.environment(instance)


class FusedRunner(FakeRunner):
    def __init__(self, fuse: Fuse) -> None:
        super().__init__()
        self._fuse = fuse

    async def start(self, work: Work) -> None:
        self._fuse.burn()
        await super().start(work)
        self._fuse.burn()

    async def stop(self, lease: str) -> None:
        self._fuse.burn()
        await super().stop(lease)
        self._fuse.burn()


class FusedRig(Rig):
    fuse: Fuse

    def actuator(self, name: str, section: SimulatedPool, model: GpuModel) -> Actuator:
        inner = SimulatedActuator(name, section, model, self.place / "gpu" / name)
        return FusedActuator(inner, self.given["fuse"])  # type: ignore[return-value]


class Machine(RuleBasedStateMachine):
    """The facility and its people; `world` is what no kill touches."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        # a process is killed here, not a machine
        self.patched = contextlib.ExitStack()
        self.patched.enter_context(patch("os.fsync", lambda _descriptor: None))
        # the same examples give the same ids, so that Hypothesis can repeat what it found
        numbers = itertools.count(1)
        self.patched.enter_context(patch("secrets.token_hex", lambda _size=8: f"{next(numbers):016x}"))
        self.place = Path(tempfile.mkdtemp(prefix="crash-"))
        self.asked: dict[str, str] = {}
        self.known: dict[str, int] = {}
        self.highest = 0

    @initialize()
    def begin(self) -> None:
        open_database(self.place / "specola.sqlite").dispose()
        self.fuse = Fuse()
        self.runner = FusedRunner(self.fuse)
        self.servers = FakeServers()
        self.clock = None
        self.rig = self.build()
        self.clock = self.rig.clock
        self.settle()

    def build(self) -> FusedRig:
        engine = sa.create_engine(f"sqlite:///{self.place / 'specola.sqlite'}")
        fuse = self.fuse = self.runner._fuse = Fuse()
        sa.event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous = OFF"))
        sa.event.listen(engine, "commit", lambda _connection: fuse.burn())
        rig = FusedRig.__new__(FusedRig)
        rig.given = {}
        FusedRig.fuse = fuse
        return made(rig, self.place, engine, fuse, clock=self.clock, runner=self.runner, servers=self.servers)

    # a kill

    def reborn(self) -> None:
        """The process is gone; a new one finds what is there."""
        for held in self.rows():
            event(f"killed while a lease was {held.state}")
        for asked in self.rig.store.queued():
            event(f"killed while a request was {asked.state}")
        self.fuse.blown = True
        with contextlib.suppress(Killed):
            self.run(self.rig.service.close())
        self.rig.engine.dispose()
        self.rig = self.build()

    def run(self, what: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(what)

    def during(self, fuse: int | None, what: Coroutine[Any, Any, Any]) -> Any:
        """Do something, and be killed in it if the fuse blows; None when it came to nothing."""
        self.fuse.left = fuse
        try:
            return self.run(what)
        except PublicError:
            return None
        except Killed:
            return None
        finally:
            self.fuse.left = None
            if self.fuse.blown:
                self.reborn()

    def settle(self) -> None:
        """Let the service do everything that there is to do."""
        self.run(self.rig.pass_by(0.1, steps=4))

    # what people do

    @rule(person=st.sampled_from(PEOPLE), shape=st.sampled_from(SHAPES), fuse=FUSES)
    def ask(self, person: str, shape: str, fuse: int | None) -> None:
        self.clock.now += 0.01
        answer = self.during(fuse, self.rig.ask(person, shape=shape, minutes=120))
        if answer is not None:
            self.asked[answer.id] = person

    @rule(fuse=st.integers(0, 20))
    def step_and_die(self, fuse: int) -> None:
        self.during(fuse, self.round())

    @rule()
    def step(self) -> None:
        self.during(None, self.round())

    async def round(self) -> None:
        self.clock.now += 1.2
        await self.rig.service.step()
        await self.rig.service.settle()
        self.fuse.burn()

    @rule(seconds=st.sampled_from((15.0, 200.0, 950.0)))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.settle()

    @precondition(lambda self: bool(self.asked))
    @rule(number=st.integers(0, 9), fuse=FUSES)
    def cancel(self, number: int, fuse: int | None) -> None:
        for identity, person in list(self.asked.items())[-1 - number :][:1]:
            self.during(fuse, self.rig.service.cancel(person, identity))

    @precondition(lambda self: self.some("offered"))
    @rule(number=st.integers(0, 9), fuse=FUSES)
    def start(self, number: int, fuse: int | None) -> None:
        lease = self.pick(number, "offered")
        if lease is not None:
            wish = kernel(lease, "cafe0000")
            if self.during(fuse, self.rig.service.start_kernel(self.owner(lease), lease.id, wish)) is None:
                # the provisioner repeats what was not answered
                self.during(None, self.rig.service.start_kernel(self.owner(lease), lease.id, wish))

    @precondition(lambda self: self.some("starting"))
    @rule(number=st.integers(0, 9), fuse=FUSES)
    def confirm(self, number: int, fuse: int | None) -> None:
        lease = self.pick(number, "starting")
        if lease is not None:
            self.during(fuse, self.rig.service.confirm(self.owner(lease), lease.id, lease.token))

    @precondition(lambda self: self.some("active", "expiring"))
    @rule(number=st.integers(0, 9), busy=st.booleans(), fuse=FUSES)
    def report(self, number: int, busy: bool, fuse: int | None) -> None:
        lease = self.pick(number, "active", "expiring")
        if lease is not None:
            said = Report(token=lease.token, kernel="busy" if busy else "idle", since=self.clock.now, checkpoint=True)
            self.during(fuse, self.rig.service.report(self.owner(lease), lease.id, said))

    @precondition(lambda self: self.some(*USED))
    @rule(number=st.integers(0, 9), fuse=FUSES)
    def release(self, number: int, fuse: int | None) -> None:
        lease = self.pick(number, *USED)
        if lease is not None:
            owner = self.owner(lease)
            self.during(fuse, self.rig.service.release(owner, lease.id, lease.token, by=owner))

    @precondition(lambda self: self.some("saving"))
    @rule(number=st.integers(0, 9), fuse=FUSES)
    def saved(self, number: int, fuse: int | None) -> None:
        lease = self.pick(number, "saving")
        if lease is not None:
            self.during(fuse, self.rig.service.saved(self.owner(lease), lease.id, Saved(token=lease.token)))

    @precondition(lambda self: bool(self.runner.work))
    @rule(number=st.integers(0, 9))
    def worker_dies(self, number: int) -> None:
        for identity in sorted(self.runner.work)[number : number + 1]:
            del self.runner.work[identity]

    def some(self, *states: str) -> bool:
        return any(held.state in states for held in self.rows())

    def pick(self, number: int, *states: str) -> Lease | None:
        found = [held for held in self.rows() if held.state in states]
        if not found:
            return None
        held = found[number % len(found)]
        lease: Lease = self.run(self.rig.service.lease(held.person, held.id))
        return lease

    def owner(self, lease: Lease) -> str:
        return next(held.person for held in self.rows() if held.id == lease.id)

    def rows(self) -> list[Held]:
        return self.rig.store.live()

    # what must hold at every moment, whatever was killed

    @invariant()
    def no_slot_is_held_twice(self) -> None:
        if not hasattr(self, "rig"):
            return
        seen: set[tuple[str, int]] = set()
        for held in self.rows():
            assert held.slot is not None
            for unit in range(held.slot.start, held.slot.start + held.slot.size):
                assert (held.slot.gpu, unit) not in seen
                seen.add((held.slot.gpu, unit))

    @invariant()
    def every_slice_lies_where_its_lease_says(self) -> None:
        if not hasattr(self, "rig"):
            return
        live = {held.id: held for held in self.rows()}
        for tag, place in self.tags().items():
            if tag in live:
                slot = live[tag].slot
                assert slot is not None
                assert place == (slot.gpu, slot.start, slot.size)

    @invariant()
    def tokens_only_grow(self) -> None:
        if not hasattr(self, "rig"):
            return
        for held in sorted(self.rows(), key=lambda one: one.token):
            if held.id not in self.known:
                assert held.token > self.highest
            self.known[held.id] = held.token
            self.highest = max(self.highest, held.token)

    @invariant()
    def no_request_is_lost(self) -> None:
        if not hasattr(self, "rig"):
            return
        live = {held.id for held in self.rows()}
        for identity in self.asked:
            asked = self.rig.store.asked(identity)
            assert asked is not None
            if asked.state == "granted":
                assert asked.lease in live
            if asked.state == "queued":
                assert asked.lease is None

    def tags(self) -> dict[str, tuple[str, int, int]]:
        inner = self.rig.pool.actuator._inner  # type: ignore[union-attr]
        cards = self.run(inner.cards())
        return {
            one.tag: (one.slot.gpu, one.slot.start, one.slot.size)
            for card in cards
            for one in card.instances
            if one.tag is not None
        }

    @rule()
    def after_a_while_rows_and_slices_are_the_same(self) -> None:
        self.settle()
        live = {held.id: held for held in self.rows()}
        assert self.tags().keys() == live.keys()
        assert all(held.state in USED for held in live.values())

    def teardown(self) -> None:
        if hasattr(self, "rig"):
            self.reborn()
            for held in self.rows():
                self.run(self.rig.service.release(held.person, held.id, held.token, by=held.person))
            for asked in self.rig.store.queued():
                self.run(self.rig.service.cancel(asked.person, asked.id))
            self.clock.now += 70
            self.settle()
            assert self.tags() == {}
            assert self.runner.work == {}
            assert self.rows() == []
            self.run(self.rig.close())
        self.loop.close()
        self.patched.close()
        shutil.rmtree(self.place, ignore_errors=True)


def made(rig: FusedRig, place: Path, engine: sa.Engine, fuse: Fuse, **more: Any) -> FusedRig:
    """A rig whose cards have the fuse; the fuse has to be there before the cards are."""
    rig.given = {"fuse": fuse}
    Rig.__init__(rig, place, pools=POOLS, groups={"physics": GroupGpu()}, engine=engine, max_requests=20, **more)
    return rig


USUAL = settings(max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
Machine.TestCase.settings = USUAL
TestCrash = Machine.TestCase


@pytest.mark.soak
def test_killed_a_thousand_times() -> None:
    run_state_machine_as_test(Machine, settings=settings(USUAL, max_examples=500, stateful_step_count=50))
