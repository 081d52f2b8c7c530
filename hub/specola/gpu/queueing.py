"""Who comes first: a course in its hours, then a group under its guarantee, then fair share, then age.

Fair share means that the group comes first that has used least for its weight. What counts is its usage, which
fades with a half-life of seven days, what its leases may still use until their terms, and what its own earlier
wishes would use: two groups that ask for the same alternate, and a hundred wishes of one do not pass before the first
of another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter

from specola.gpu.state import GroupShare, PoolState, Reserved, State, Wish

HALF_LIFE = 7 * 86400.0
"""seconds after which usage counts half"""

Seat = tuple[str, str, str]
"""course, pool, shape"""

_EVERYBODY = GroupShare()


def decayed(usage: float, elapsed: float) -> float:
    """Usage as it counts after so many seconds."""
    return float(usage * 0.5 ** (elapsed / HALF_LIFE))


def eighths(pool: PoolState) -> dict[str, float]:
    """Size of every shape of a pool in eighths of a GPU."""
    geometry = pool.geometry
    return {shape: geometry.eighths(shape) for shape in (*geometry.shapes, "whole")}


@dataclass(slots=True)
class Census:
    """What is held, in one pass over the leases."""

    sizes: dict[str, dict[str, float]]
    """by pool and shape, eighths of a GPU"""
    held: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """by group, eighths of a GPU"""
    ahead: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """by group, what its leases may still use: slot-seconds"""
    seats: dict[Seat, int] = field(default_factory=lambda: defaultdict(int))


def census(state: State, now: float) -> Census:
    """Count the leases."""
    found = Census({name: eighths(pool) for name, pool in state.pools.items()})
    sizes, held, ahead = found.sizes, found.held, found.ahead
    for holding in state.holdings:
        size = sizes.get(holding.pool, {}).get(holding.shape, 0.0)
        held[holding.group] += size
        if holding.expires is not None and holding.expires > now:
            ahead[holding.group] += size * (holding.expires - now)
        if holding.course is not None:
            found.seats[holding.course, holding.pool, holding.shape] += 1
    return found


def is_open(reserved: Reserved, now: float) -> bool:
    """Whether the course is in its hours."""
    return reserved.start <= now < reserved.end


def seats_left(state: State, counted: Census, now: float) -> dict[Seat, int]:
    """How many of its reserved slices every course in its hours can still claim."""
    left: dict[Seat, int] = defaultdict(int)
    for reserved in state.reserved:
        if is_open(reserved, now):
            left[reserved.course, reserved.pool, reserved.shape] += reserved.count
    return {seat: number - counted.seats[seat] for seat, number in left.items()}


def order(wishes: Iterable[Wish], state: State, now: float) -> list[Wish]:
    """The queue, the next first."""
    return ordered(wishes, state, census(state, now), now)


def ordered(wishes: Iterable[Wish], state: State, counted: Census, now: float) -> list[Wish]:
    """`order`, for one who has counted already."""
    seats = seats_left(state, counted, now) if state.reserved else {}
    lines: dict[str, _Line] = {}
    sizes = counted.sizes
    first: list[Wish] = []
    second: list[Wish] = []
    fair: list[Wish] = []
    usage: list[float] = []
    for wish in sorted(wishes, key=attrgetter("since")):
        line = lines.get(wish.group)
        if line is None:
            line = lines[wish.group] = _Line.of(wish.group, state, counted)
        want = wish.wants[0]
        size = sizes[want.pool].get(want.shape, 0.0) if want.pool in sizes else 0.0
        if seats and wish.course is not None and _sits(wish, seats):
            first.append(wish)
        elif size <= line.guarantee:
            line.guarantee -= size
            second.append(wish)
        else:
            fair.append(wish)
            usage.append(line.usage)
        line.usage += size * wish.seconds / line.weight
    if len(lines) > 1:
        # sorting numbers by themselves is several times faster than sorting pairs; equals keep their order, by age
        fair = [fair[index] for index in sorted(range(len(fair)), key=usage.__getitem__)]
    return first + second + fair


@dataclass(slots=True)
class _Line:
    """One group while its wishes are counted off."""

    guarantee: float
    """eighths that are still due to it"""
    usage: float
    """slot-seconds per weight"""
    weight: float

    @classmethod
    def of(cls, group: str, state: State, counted: Census) -> _Line:
        share = state.groups.get(group, _EVERYBODY)
        usage = (share.usage + counted.ahead.get(group, 0.0)) / share.weight
        return cls(share.guaranteed - counted.held.get(group, 0.0), usage, share.weight)


def _sits(wish: Wish, seats: dict[Seat, int]) -> bool:
    """Claim one of the seats of its course."""
    for want in wish.wants:
        seat = (wish.course or "", want.pool, want.shape)
        if seats.get(seat, 0) > 0:
            seats[seat] -= 1
            return True
    return False
