"""Which idle leases to ask to go, so that somebody who waits is served, at the least cost.

Cost is, in this order: how many leases are asked, how many of those have a kernel that cannot save itself, how many
that were asked before are needed, how recently the most recently used of them was used, how many slots they have. Who
is idle longest is likeliest to have left, and when a larger slice than needed goes, the next who waits finds room.
A wish is served by one position on one GPU, so looking at every position is exact for it; the wishes are served in
the order of the queue.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import NamedTuple

from specola.gpu.board import Board
from specola.gpu.state import Holding, Slot

Cost = tuple[int, int, int, float, float]


@dataclass(slots=True, eq=False)
class Candidate:
    """A lease that may be asked to go, or was."""

    holding: Holding
    slot: Slot
    size: float
    """eighths of a GPU"""
    asked: bool
    """has had its notice before"""
    chosen: bool = False
    reused: bool = False
    """its slice of a fixed layout has been given on"""


class Position(NamedTuple):
    """Where something could lie, and what that costs."""

    cost: Cost
    gpu: str
    start: int
    version: int


class Search:
    """The cheapest positions of one pool.

    `board` holds everything that stays, and nothing of the candidates.
    """

    def __init__(self, board: Board, candidates: Iterable[Candidate]) -> None:
        self.board = board
        self.candidates: dict[str, list[Candidate]] = defaultdict(list)
        for candidate in candidates:
            if board.offers_on(candidate.slot.gpu):
                self.candidates[candidate.slot.gpu].append(candidate)
        self._versions = dict.fromkeys(self.candidates, 0)
        self._heaps: dict[str, list[Position]] = {}
        self._dirty: dict[str, set[str]] = {}
        """by shape: GPUs that have to be looked at again"""

    def best(self, shape: str) -> Position | None:
        """The cheapest position for a slice of this shape; None when asking nobody would help."""
        heap = self._heaps.get(shape)
        if heap is None:
            heap, self._dirty[shape] = self._heaps.setdefault(shape, []), set(self.candidates)
        dirty = self._dirty[shape]
        while dirty:
            fresh = self._best_on(dirty.pop(), shape)
            if fresh is not None:
                heappush(heap, fresh)
        while heap and heap[0].version != self._versions[heap[0].gpu]:
            heappop(heap)
        return heap[0] if heap else None

    def take(self, position: Position, shape: str) -> list[Candidate]:
        """Use a position; those who have to go for it and had not been chosen before."""
        gpu, start = position.gpu, position.start
        slot = Slot(gpu, start, self.board.size(shape))
        found = self._in_the_way(slot)
        chosen = [candidate for candidate in found if not candidate.chosen]
        for candidate in chosen:
            candidate.chosen = True
        if gpu in self.board.index:
            self.board.take(slot, shape)
        for candidate in found:
            candidate.reused = candidate.slot == slot
        self.changed(gpu)
        return chosen

    def changed(self, gpu: str) -> None:
        """Something was chosen or placed on a GPU: what was known of it is out of date."""
        if gpu not in self._versions:
            return
        self._versions[gpu] += 1
        for dirty in self._dirty.values():
            dirty.add(gpu)

    def _in_the_way(self, slot: Slot) -> list[Candidate]:
        end = slot.start + slot.size
        return [
            candidate
            for candidate in self.candidates[slot.gpu]
            if candidate.slot.start < end and slot.start < candidate.slot.start + candidate.slot.size
        ]

    def _best_on(self, gpu: str, shape: str) -> Position | None:
        best: Position | None = None
        # the highest start is the one that larger shapes have least use for
        for start in reversed(self._starts(gpu, shape)):
            cost = self._cost(gpu, start, shape)
            if cost is not None and (best is None or cost < best.cost):
                best = Position(cost, gpu, start, self._versions[gpu])
        return best

    def _starts(self, gpu: str, shape: str) -> list[int]:
        at = self.board.index.get(gpu)
        if at is not None:
            return self.board.starts(self.board.cards[at], shape)
        candidates = self.candidates[gpu]
        return [one.slot.start for one in candidates if one.holding.shape == shape and not one.reused]

    def _cost(self, gpu: str, start: int, shape: str) -> Cost | None:
        """What it costs to lie there; None when engines of others are in the way."""
        number, unsaved, asked, used, slots = 0, 0, 0, 0.0, 0.0
        end, at = start + self.board.size(shape), self.board.index.get(gpu)
        card = 0 if at is None else self.board.cards[at]
        for candidate in self.candidates[gpu]:
            if candidate.chosen:
                continue
            other = candidate.slot
            if other.start >= end or start >= other.start + other.size:
                if at is not None:
                    card &= self.board.kept(other, candidate.holding.shape)
                continue
            if candidate.asked:
                asked += 1
            else:
                number += 1
                unsaved += not candidate.holding.checkpoint
                slots += candidate.size
            used = max(used, candidate.holding.idle_since or 0.0)
        if at is not None and start not in self.board.starts(card, shape):
            return None
        return (number, unsaved, asked, used, slots)
