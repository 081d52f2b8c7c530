"""How many GPUs a course takes, and what stands in its way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil, exp, lgamma, log

from specola.gpu.board import Board
from specola.gpu.geometry import WHOLE, GpuModel
from specola.gpu.packing import placeable
from specola.gpu.state import Holding, PoolState, Reserved

CERTAINTY = 0.99
"""probability that not more come than are counted on"""


@dataclass(frozen=True, slots=True)
class Need:
    """What a course needs."""

    attendance: int
    """not more come, with a probability of 99 %"""
    per_gpu: int
    gpus: int


def attendance(seats: int, show_up: float) -> int:
    """The smallest number that is not exceeded with a probability of 99 %, when everybody decides alone."""
    if show_up >= 1:
        return seats
    below = 0.0
    for number in range(seats):
        # by logarithms: of a thousand seats, the number of ways is more than a float holds
        ways = lgamma(seats + 1) - lgamma(number + 1) - lgamma(seats - number + 1)
        below += exp(ways + number * log(show_up) + (seats - number) * log(1 - show_up))
        if below >= CERTAINTY:
            return number
    return seats


def need(model: GpuModel, shape: str, seats: int, show_up: float) -> Need:
    """The fewest GPUs that hold a slice for everybody who comes."""
    each = 1 if shape == WHOLE else placeable(model.geometry, (), shape)
    coming = attendance(seats, show_up)
    return Need(coming, each, ceil(coming / each))


def conflicts(
    pool: PoolState, course: Reserved, others: Iterable[Reserved] = (), holdings: Iterable[Holding] = ()
) -> tuple[str, ...]:
    """What stands in the way of a course, a sentence each; none when its slices are there for certain.

    Bookings whose hours overlap count in full; leases count as long as their terms reach into the course.
    """
    found = []
    overlapping = [
        one
        for one in others
        if one.pool == pool.name
        and (one.course, one.shape) != (course.course, course.shape)
        and one.start < course.end
        and course.start < one.end
    ]
    empty = Board(pool)
    alone = _missing(empty, [course])
    if alone:
        return (f"The pool holds {course.count - alone} of {course.count} slices {course.shape} when it is empty.",)
    if overlapping and (short := _missing(empty, [*overlapping, course])):
        names = ", ".join(f"{one.course} ({one.count} of {one.shape})" for one in overlapping)
        found.append(f"{short} slices are missing while there is also {names}.")
    late = [one for one in holdings if one.pool == pool.name and _until(one) > course.start]
    if late and (short := _missing(_with(pool, late), [course])):
        until = max(map(_until, late))
        when = "an unknown time" if until == float("inf") else _clock(until)
        found.append(f"{short} slices are taken at the start by {_count(late)} that may run until {when}.")
    return tuple(found)


def _count(leases: Sequence[Holding]) -> str:
    return "a lease" if len(leases) == 1 else f"{len(leases)} leases"


def _until(holding: Holding) -> float:
    end = holding.expires if holding.ends_at is None else holding.ends_at
    return float("inf") if end is None else end


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _with(pool: PoolState, holdings: Sequence[Holding]) -> Board:
    board = Board(pool)
    board.occupy(holdings)
    return board


def _missing(board: Board, wanted: Sequence[Reserved]) -> int:
    """How many slices of the last reservation do not fit beside the others."""
    trial = board.copy()
    *others, last = wanted
    for one in others:
        for _ in range(one.count):
            trial.promise(one.shape)
    return last.count - sum(trial.promise(last.shape) for _ in range(last.count))
