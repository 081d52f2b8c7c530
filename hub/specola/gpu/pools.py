"""A pool as the service sees it: what its outside system says now, and what the planner is told of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from specola.gpu.geometry import WHOLE, GpuModel
from specola.gpu.model import Actuator, Card, CondorPool, Home, Instance, Pool, Runner, SlurmPool
from specola.gpu.state import GpuState, PoolState
from specola.gpu.store import Held

PATIENCE = 20.0
"""seconds after which an outside system that does not answer is given up for this time"""
STALE = 30.0
"""seconds after which nothing new is placed by what was last heard"""

Piece = tuple[int, int]

log = logging.getLogger(__name__)


@dataclass
class GpuPool:
    """One pool. `closed` says why nobody can use it here; it then has neither actuator nor runner."""

    name: str
    section: Pool
    model: GpuModel
    actuator: Actuator | None = None
    runner: Runner | None = None
    closed: str = ""
    home: Home = "shared"
    cards: tuple[Card, ...] = ()
    seen: float = float("-inf")
    """when the cards were last read"""
    trouble: str = ""
    """why they could not be read at the last try"""
    _blocked: dict[str, float] = field(default_factory=dict)

    @property
    def simulated(self) -> bool:
        """Whether its GPUs are invented."""
        return self.section.actuator == "simulated"

    @property
    def places(self) -> bool:
        """Whether we choose where a slice lies; else the site's own negotiator does."""
        return self.actuator is not None

    @property
    def granularity(self) -> str:
        """What can be changed: nothing, whole GPUs, or single slices."""
        return "none" if self.actuator is None else self.actuator.granularity

    async def look(self, now: float) -> None:
        """Read the cards; when they cannot be read, what was known stays for a while."""
        if self.actuator is None:
            self.seen = now
            return
        try:
            self.cards = tuple(await asyncio.wait_for(self.actuator.cards(), PATIENCE))
        except Exception as error:  # noqa: BLE001 - a library of a driver may raise anything, and the others must go on
            if not self.trouble:
                log.warning("the GPUs of %s cannot be read: %s: %s", self.name, type(error).__name__, error)
            self.trouble = "Its GPUs do not answer at present."
        else:
            self.trouble = ""
            self.seen = now

    def block(self, gpu: str, until: float) -> None:
        """Place nothing on a GPU that just failed, for a while."""
        self._blocked[gpu] = until

    def shapes(self) -> frozenset[str]:
        """What may be asked here."""
        if self.closed:
            return frozenset()
        if isinstance(self.section, CondorPool | SlurmPool):
            return frozenset(self.section.shapes or self.model.profiles)
        if self.granularity == "instance":
            return frozenset({*self.model.profiles, WHOLE})
        return frozenset(shape for card in self.cards for shape, _ in self.layout(card) or ())

    def layout(self, card: Card) -> tuple[tuple[str, int], ...] | None:
        """(shape, start) of the slices of a card that we cannot change; None where they are made on demand."""
        if self.granularity == "instance":
            return None
        if not card.instances and not card.mig:
            return ((WHOLE, 0),)
        return tuple((one.shape, one.slot.start) for one in card.instances)

    def state(self, live: Collection[Held], drained: Collection[str], now: float) -> PoolState:
        """What the planner is told."""
        mine = [held for held in live if held.pool == self.name]
        gpus = [self._gpu(card, mine, drained, now) for card in self.cards]
        lost = {held.gpu for held in mine if held.gpu} - {card.id for card in self.cards}
        gpus += [GpuState(gpu, foreign=self._rest(gpu, (), mine)) for gpu in sorted(lost)]
        return PoolState(self.name, self.model.geometry, tuple(gpus), self.places, self.shapes())

    def _gpu(self, card: Card, mine: Sequence[Held], drained: Collection[str], now: float) -> GpuState:
        foreign = self.foreign(card, mine)
        shut = not card.healthy or now - self.seen > STALE or self._blocked.get(card.id, 0) > now
        if shut:
            foreign = (*foreign, *self._rest(card.id, foreign, mine))
        return GpuState(card.id, card.id in drained, self.layout(card), foreign)

    def foreign(self, card: Card, mine: Iterable[Held]) -> tuple[Piece, ...]:
        """(start, size) of what is on a card and is no lease of ours, or not any more."""
        known = {held.id for held in mine}
        slots = {(held.start, held.size) for held in mine if held.gpu == card.id}
        others = [
            (one.slot.start, one.slot.size)
            for one in card.instances
            if one.tag not in known and (one.slot.start, one.slot.size) not in slots and self._counts(one)
        ]
        return (*card.foreign, *others)

    def _counts(self, one: Instance) -> bool:
        """A slice of a fixed layout that nobody holds is free; one that was made on demand is in the way."""
        return one.tag is not None or self.granularity == "instance"

    def _rest(self, gpu: str, taken: Iterable[Piece], mine: Iterable[Held]) -> tuple[Piece, ...]:
        """Everything of a GPU that is not taken, as something that nobody can have."""
        held = [(slot.start, slot.size) for one in mine if (slot := one.slot) is not None and slot.gpu == gpu]
        return gaps(self.model.geometry.slots, [*taken, *held])

    def instance(self, held: Held) -> Instance | None:
        """The slice of a lease among the cards as last read: by its tag, else by its place if it has no tag at all."""
        every = [one for card in self.cards for one in card.instances]
        tagged = next((one for one in every if one.tag == held.id), None)
        untagged = (one for one in every if one.tag is None and one.slot == held.slot and _ours(one, held))
        return tagged or next(untagged, None)

    def orphans(self, live: Collection[str]) -> list[Instance]:
        """Slices with the mark of a lease that is not among the living."""
        return [one for card in self.cards for one in card.instances if one.tag is not None and one.tag not in live]


def _ours(one: Instance, held: Held) -> bool:
    return one.shape == held.shape and held.device in {None, one.uuid}


def gaps(slots: int, taken: Iterable[Piece]) -> tuple[Piece, ...]:
    """(start, size) of the longest runs of free slots."""
    busy = {unit for start, size in taken for unit in range(start, start + size)}
    found: list[Piece] = []
    for unit in range(slots):
        if unit in busy:
            continue
        if found and found[-1][0] + found[-1][1] == unit:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((unit, 1))
    return tuple(found)


def by_name(pools: Iterable[GpuPool]) -> Mapping[str, GpuPool]:
    """Pools by their names, in the order of the facility file."""
    return {pool.name: pool for pool in pools}
