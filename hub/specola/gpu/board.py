"""A pool while it is planned: what lies on its GPUs, what has been promised, and where it will lie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from specola.gpu.geometry import WHOLE, Geometry
from specola.gpu.placing import HalvesRoom, QuartersRoom, Room
from specola.gpu.state import GpuState, Holding, PoolState, Slot

EIGHT = 8


class _Tables:
    """What is worked out once for a geometry; it is kept with it, so that its identity stays its own."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.room = room_for(geometry)
        self.keep: Mapping[tuple[int, str], int] = self.room.keeps()
        self.starts: dict[tuple[int, str], list[int]] = {}
        self.size = {shape: geometry.size(shape) for shape in (*geometry.shapes, WHOLE)}


_TABLES: dict[int, _Tables] = {}


def room_for(geometry: Geometry) -> Room:
    """Room without any GPU yet."""
    return HalvesRoom(geometry, ()) if geometry.slots == EIGHT else QuartersRoom(geometry, ())


def _tables(geometry: Geometry) -> _Tables:
    known = _TABLES.get(id(geometry))
    if known is None:
        known = _TABLES[id(geometry)] = _Tables(geometry)
    return known


class Board:
    """One pool: `occupy` what lies there, `promise` in the order of the queue, `place` at the end.

    Slices of a fixed layout are handed out as they are; on other GPUs slices are made. A drained GPU offers nothing.
    Where a site places, everything can be promised and nothing has a slot.
    """

    def __init__(self, pool: PoolState) -> None:
        self.pool = pool
        self.room = room_for(pool.geometry)
        self.ids: list[str] = []
        self.cards: list[int] = []
        self.index: dict[str, int] = {}
        self.fixed: dict[str, dict[tuple[str, int], Slot]] = {}
        """free slices of fixed layouts, by shape and by (GPU, start)"""
        self._laid_out: set[str] = set()
        self.dead: set[str] = set()
        self.offers = pool.shapes
        self._promised: list[Slot | None] = []
        self._tables = _tables(pool.geometry)
        self._keep = self._tables.keep
        self._ready = False
        self._from_room: list[int] = []
        for gpu in pool.gpus:
            self._add(gpu)

    def _add(self, gpu: GpuState) -> None:
        if gpu.drained:
            return
        if gpu.fixed is not None:
            self._laid_out.add(gpu.id)
            for shape, start in gpu.fixed:
                size = self._tables.size[shape]
                if gpu.foreign and any(start < at + width and at < start + size for at, width in gpu.foreign):
                    continue
                self.fixed.setdefault(shape, {})[gpu.id, start] = Slot(gpu.id, start, size)
            return
        self.index[gpu.id] = len(self.cards)
        self.ids.append(gpu.id)
        self.cards.append(self.room.card(gpu.foreign) if gpu.foreign else self.room.empty)

    def occupy(self, holdings: Iterable[Holding]) -> None:
        """Take the slots of leases."""
        index, cards, keep = self.index, self.cards, self._keep
        for holding in holdings:
            slot = holding.slot
            if slot is None:
                continue
            at = index.get(slot.gpu)
            if at is None:
                self._occupy_fixed(slot, holding.shape)
            else:
                kept = keep.get((slot.start, holding.shape))
                cards[at] &= self.kept(slot, holding.shape) if kept is None else kept

    def _occupy_fixed(self, slot: Slot, shape: str) -> None:
        self.fixed.get(shape, {}).pop((slot.gpu, slot.start), None)

    def offers_on(self, gpu: str) -> bool:
        """Whether something new can be placed on this GPU at all."""
        return gpu in self.index or gpu in self._laid_out

    def kept(self, slot: Slot, shape: str) -> int:
        """Bits of a card that stay when this slot is taken; its size counts where the shape is not known."""
        found = self._keep.get((slot.start, shape))
        return self.room.card([(slot.start, slot.size)]) if found is None else found

    def size(self, shape: str) -> int:
        """Slots of a shape."""
        return self._tables.size[shape]

    def starts(self, card: int, shape: str) -> list[int]:
        """Where on a card a slice could lie; remembered, as there are few different cards."""
        known = self._tables.starts
        found = known.get((card, shape))
        if found is None:
            found = known[card, shape] = self.room.starts(card, shape)
        return found

    def take(self, slot: Slot, shape: str) -> None:
        """Take one slot."""
        at = self.index.get(slot.gpu)
        if at is None:
            self._occupy_fixed(slot, shape)
        else:
            self.cards[at] &= self.kept(slot, shape)

    def promise(self, shape: str) -> bool:
        """Set one aside; False when there is no room for it, and then there is none until things change."""
        if shape in self.dead or (self.offers and shape not in self.offers):
            return False
        if not self.pool.places:
            self._promised.append(None)
            return True
        slices = self.fixed.get(shape)
        if slices:
            self._promised.append(slices.pop(next(iter(slices))))
            return True
        if not self._ready:
            self.room.fill(self.cards)
            self._ready = True
        if shape not in self.room.kinds or not self.room.promise(shape):
            self.dead.add(shape)
            return False
        self._from_room.append(len(self._promised))
        self._promised.append(None)
        return True

    def hand(self, slot: Slot) -> None:
        """Promise a slot that was set aside before."""
        self._promised.append(slot)

    def place(self) -> list[Slot | None]:
        """The slots of everything promised, in that order; they are taken, and more can be promised after."""
        promised, size = self._promised, self._tables.size
        if self._from_room:
            shapes = list(self.room.promised)
            for at, shape, (card, start) in zip(self._from_room, shapes, self.room.place(), strict=True):
                promised[at] = Slot(self.ids[card], start, size[shape])
                self.cards[card] &= self._keep[start, shape]
        self._promised, self._from_room, self._ready = [], [], False
        return promised

    def release(self, slot: Slot, shape: str, staying: Iterable[tuple[Slot, str]]) -> None:
        """Free a slot; `staying` is all else that lies on its GPU, foreign slices apart."""
        at = self.index.get(slot.gpu)
        self.dead.clear()
        if at is None:
            if slot.gpu in self._laid_out:
                self.fixed.setdefault(shape, {})[slot.gpu, slot.start] = slot
            return
        foreign = next(gpu.foreign for gpu in self.pool.gpus if gpu.id == slot.gpu)
        card = self.room.card(foreign)
        for other, name in staying:
            card &= self.kept(other, name)
        self.cards[at] = card

    def copy(self) -> Board:
        """The same GPUs with the same on them, to try things on; nothing is promised there."""
        other = Board(self.pool)
        other.cards = list(self.cards)
        other.fixed = {shape: dict(slots) for shape, slots in self.fixed.items()}
        return other

    def spare(self) -> Room:
        """The room of the GPUs without a fixed layout."""
        room = room_for(self.pool.geometry)
        room.fill(self.cards)
        return room
