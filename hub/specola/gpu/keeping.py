"""Slices kept for courses: what is free for one is set aside; for the rest, the cheapest places are emptied.

From an hour before a course until its end, as many slices as it has reserved and does not hold are kept. Where too few
are free, positions are chosen whose leases end soonest and are fewest: nothing new is placed there, what computes
runs to the end of its term without being renewed, and what is idle is asked to go.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from specola.gpu.board import Board
from specola.gpu.queueing import Census, Seat, is_open
from specola.gpu.state import Holding, Reserved, Slot, State


@dataclass(slots=True)
class Kept:
    """What is set aside, and what is being emptied."""

    open: dict[Seat, list[Slot]] = field(default_factory=dict)
    """free slices of courses in their hours: their people may claim them"""
    aside: list[tuple[str, Slot, str]] = field(default_factory=list)
    """(pool, slot, shape) that were free"""
    emptied: list[tuple[str, Slot, str]] = field(default_factory=list)
    """(pool, slot, shape) that leases still occupy"""


def keep(state: State, boards: dict[str, Board], counted: Census, now: float) -> Kept:
    """Take what courses need off the boards."""
    found = Kept()
    before = state.terms.drain_before
    due = [one for one in state.reserved if one.start - before <= now < one.end and one.pool in boards]
    for reserved in sorted(due, key=lambda one: (one.start, one.course, one.pool, one.shape)):
        board = boards[reserved.pool]
        if not board.pool.places or reserved.shape not in board.room.kinds:
            continue
        seat = (reserved.course, reserved.pool, reserved.shape)
        missing = reserved.count - counted.seats.get(seat, 0)
        free = [slot for slot in _set_aside(board, reserved.shape, missing) if slot is not None]
        if is_open(reserved, now):
            found.open.setdefault(seat, []).extend(free)
        found.aside += [(reserved.pool, slot, reserved.shape) for slot in free]
        slots = _empty(state, board, reserved, missing - len(free))
        found.emptied += [(reserved.pool, slot, reserved.shape) for slot in slots]
    for board in boards.values():
        board.dead.clear()
    return found


def _set_aside(board: Board, shape: str, number: int) -> list[Slot | None]:
    for _ in range(number):
        if not board.promise(shape):
            break
    return board.place()


def _empty(state: State, board: Board, reserved: Reserved, number: int) -> list[Slot]:
    """The positions to be emptied; taken on the board."""
    if number <= 0:
        return []
    costs = sorted(_positions(state, board, reserved))
    taken: list[Slot] = []
    apart = (slot for _, slot in costs if not any(overlap(slot, other) for other in taken))
    for slot in islice(apart, number):
        taken.append(slot)
        board.take(slot, reserved.shape)
    return taken


Cost = tuple[int, int, float, str, int]


def _positions(state: State, board: Board, reserved: Reserved) -> Iterable[tuple[Cost, Slot]]:
    """Every place for a slice that leases of others occupy.

    What it costs: how many of them outlast the opening, how many there are, when the last ends.
    """
    lying: dict[str, list[Holding]] = {}
    for holding in state.holdings:
        if holding.pool == reserved.pool and holding.slot is not None:
            lying.setdefault(holding.slot.gpu, []).append(holding)
    for gpu in board.pool.gpus:
        if gpu.drained:
            continue
        for slot in _slots(board, gpu.id, gpu.fixed, reserved.shape):
            others = [one for one in lying.get(gpu.id, ()) if one.slot is not None and overlap(slot, one.slot)]
            if not others or any(overlap(slot, Slot(gpu.id, *foreign)) for foreign in gpu.foreign):
                continue
            if any(one.course == reserved.course for one in others):
                continue
            ends = [one.ends_at or one.expires or float("inf") for one in others]
            late = sum(end > reserved.start for end in ends)
            yield (late, len(others), max(ends), gpu.id, slot.start), slot


def _slots(board: Board, gpu: str, fixed: Sequence[tuple[str, int]] | None, shape: str) -> list[Slot]:
    size = board.pool.geometry.size(shape)
    if fixed is not None:
        return [Slot(gpu, start, size) for name, start in fixed if name == shape]
    starts = board.pool.geometry.shapes[shape].starts if shape in board.pool.geometry.shapes else (0,)
    return [Slot(gpu, start, size) for start in starts]


def overlap(one: Slot, other: Slot) -> bool:
    """Whether two slots have a unit in common."""
    return one.gpu == other.gpu and one.start < other.start + other.size and other.start < one.start + one.size
