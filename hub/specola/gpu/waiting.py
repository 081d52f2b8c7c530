"""How long a wait may be: an honest range.

Both ends come from playing the queue forward with the planner's own admission. At the *high* end every lease lasts to
the end of its term and saves itself, every offer is taken at the last moment and used for as long as its group may,
and whoever is ahead uses their whole time. At the *low* end idle leases are asked to go as soon as they may be, offers
lapse, and leases end early as often as they did before: the time after which, in one case of ten, as many have ended as
are needed. What nobody can know stays open: who comes later and stands before us, who renews by hand, and how a site
with a negotiator of its own decides; where an end cannot be told, it is None.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush

from specola.gpu.board import Board
from specola.gpu.desk import Desk
from specola.gpu.keeping import Kept, keep
from specola.gpu.phases import cause
from specola.gpu.planning import occupied
from specola.gpu.queueing import census, ordered
from specola.gpu.state import GroupShare, Holding, Slot, State, Want, Wish

Range = tuple[float, float | None]
"""seconds; the second is None where nobody can say"""

LUCKY = 1.2816
"""standard deviations from the median to the luckiest tenth"""

_EVERYBODY = GroupShare()
_End = tuple[float, int, str, str, Slot | None, str, str]
"""time, number, lease, pool, slot, shape, group"""


def wait(state: State, queue: Sequence[Wish], want: Want, now: float, wish: str | None = None) -> Range | None:
    """The wait of a wish in the queue, or of one who would ask for `want` after all others; None: at once."""
    forecast = _latest(state, queue, now)
    return forecast.of_want(want) if wish is None else forecast.of_wish(wish)


class Forecast:
    """The queue played forward, once for each end of the ranges; every question is answered from that."""

    def __init__(self, state: State, queue: Sequence[Wish], now: float) -> None:
        self.asked = (state, queue, now)
        self._line = ordered(queue, state, census(state, now), now)
        high = {one.id: _late(one, state, now) for one in state.holdings}
        low = {one.id: _early(one, state, now) for one in state.holdings}
        self._high = Play(state, self._line, now, high)
        self._low = self._high if low == high else Play(state, self._line, now, low)

    def of_wish(self, wish: str) -> Range | None:
        """The wait of a wish in the queue; at once where it is not in it."""
        ahead = next((index for index, one in enumerate(self._line) if one.id == wish), None)
        if ahead is None:
            return None
        found = self._line[ahead]
        lucky = min((self._lucky(want, ahead) for want in found.wants), default=None)
        return self._range(self._low.wishes.get(wish), self._high.wishes.get(wish), lucky)

    def of_want(self, want: Want) -> Range | None:
        """The wait of one who would ask now, after all others."""
        pool = self.asked[0].pools.get(want.pool)
        if pool is not None and not pool.places:
            return (0.0, None)
        return self._range(self._low.wants.get(want), self._high.wants.get(want), self._lucky(want, len(self._line)))

    def _range(self, low: float | None, high: float | None, lucky: float | None) -> Range | None:
        now = self.asked[2]
        if now in {high, low}:
            return None
        ends = [one for one in (None if low is None else low - now, lucky) if one is not None and one != float("inf")]
        if high is None:
            return (min(ends, default=0.0), None)
        return (min([*ends, high - now]), high - now)

    def _lucky(self, want: Want, ahead: int) -> float:
        """Seconds in which, in one case of ten, enough leases have ended early."""
        state = self.asked[0]
        pool = state.pools.get(want.pool)
        if pool is None or state.early_release <= 0:
            return float("inf")
        size = _size(state, want.pool, want.shape)
        able = sum(
            one.pool == want.pool and one.state == "active" and _size(state, one.pool, one.shape) >= size
            for one in state.holdings
        )
        needed = 1 + sum(any(other.pool == want.pool for other in one.wants) for one in self._line[:ahead])
        if needed > able:
            return float("inf")
        # the tenth percentile of the time to so many of equally likely events (Wilson and Hilferty)
        events: float = needed * max(0.0, 1 - 1 / (9 * needed) - LUCKY / (3 * needed**0.5)) ** 3
        return events / (state.early_release * able)


def _size(state: State, pool: str, shape: str) -> int:
    known = state.pools.get(pool)
    if known is None or (shape not in known.geometry.shapes and shape != "whole"):
        return 0
    return known.geometry.size(shape)


def _late(holding: Holding, state: State, now: float) -> float:
    """When a lease ends at the latest, saving included."""
    terms = state.terms
    longest = state.groups.get(holding.group, _EVERYBODY).longest
    if holding.state in {"saving", "ending"}:
        return now + terms.saving
    if holding.state == "expiring" and holding.ends_at is not None:
        return holding.ends_at + terms.saving
    if holding.state == "active" and holding.expires is not None:
        return max(now, holding.expires) + terms.saving
    held = holding.expires if holding.state == "offered" and holding.expires is not None else now + terms.hold
    return held + longest + terms.saving


def _early(holding: Holding, state: State, now: float) -> float:
    """When a lease may end at the earliest, if its holder does nothing."""
    terms = state.terms
    if holding.state in {"saving", "ending"}:
        return now + 1
    if holding.state == "expiring" and holding.ends_at is not None:
        return max(now + 1, holding.expires or now) if cause(holding) == "term" else max(now + 1, holding.ends_at)
    if holding.state == "offered" and holding.expires is not None:
        return max(now + 1, holding.expires)
    end = _late(holding, state, now)
    if holding.state == "active" and holding.reclaimable and not holding.computing and holding.idle_since is not None:
        begun = holding.granted if holding.active is None else holding.active
        asked = max(now, holding.idle_since + terms.idle_after, begun + terms.youngest)
        end = min(end, asked + terms.notice)
    return end


class Play:
    """One run: when every wish of the line is admitted, and when each want could be after them."""

    def __init__(self, state: State, line: Sequence[Wish], now: float, ends: dict[str, float]) -> None:
        self.state = state
        self.wishes: dict[str, float] = {}
        self.wants: dict[Want, float] = {}
        self._boards = occupied(state)
        counted = census(state, now)
        kept = keep(state, self._boards, counted, now) if state.reserved else Kept()
        self._desk = Desk(self._boards, counted, state.groups, kept.open)
        self._lying: dict[tuple[str, str], list[tuple[Slot, str]]] = {}
        self._number = 0
        self._ends: list[_End] = []
        for one in state.holdings:
            if one.pool in self._boards:
                self._add(ends[one.id], one.id, one.group, (one.pool, one.slot, one.shape))
        self._keep(kept)
        heapify(self._ends)
        self._open = {
            Want(name, shape)
            for name, pool in state.pools.items()
            for shape in pool.shapes or pool.geometry.shapes
            if pool.places
        }
        self._run(list(line), now)

    def _add(self, at: float, lease: str, group: str, place: tuple[str, Slot | None, str]) -> None:
        pool, slot, shape = place
        self._number += 1
        self._ends.append((at, self._number, lease, pool, slot, shape, group))
        if slot is not None:
            self._lying.setdefault((pool, slot.gpu), []).append((slot, shape))

    def _keep(self, kept: Kept) -> None:
        """What is kept for courses is free for others when the last of its pool closes."""
        closing = {
            pool: max(one.end for one in self.state.reserved if one.pool == pool)
            for pool in {pool for pool, _, _ in (*kept.aside, *kept.emptied)}
        }
        for pool, slot, shape in (*kept.aside, *kept.emptied):
            self._add(closing[pool], "", "", (pool, slot, shape))

    def _run(self, line: list[Wish], now: float) -> None:
        line = self._admit(line, now)
        while self._ends and (line or self._open):
            at = self._ends[0][0]
            while self._ends and self._ends[0][0] <= at:
                self._release(heappop(self._ends))
            line = self._admit(line, at)

    def _release(self, end: _End) -> None:
        _, _, lease, pool, slot, shape, group = end
        if lease:
            self._desk.counted.held[group] -= self._desk.counted.sizes[pool].get(shape, 0.0)
        board = self._boards[pool]
        if slot is not None:
            lying = self._lying[pool, slot.gpu]
            lying.remove((slot, shape))
            board.release(slot, shape, lying)

    def _admit(self, line: list[Wish], at: float) -> list[Wish]:
        admitted, left = self._desk.admit(line)
        grants = self._desk.place(admitted)
        for (wish, want), grant in zip(admitted, grants, strict=True):
            self.wishes[wish.id] = at
            end = at + wish.seconds + self.state.terms.saving
            self._number += 1
            heappush(self._ends, (end, self._number, wish.id, want.pool, grant.slot, want.shape, wish.group))
            if grant.slot is not None:
                self._lying.setdefault((want.pool, grant.slot.gpu), []).append((grant.slot, want.shape))
        for want in self._now_free(self._open):
            self.wants[want] = at
        self._open -= self.wants.keys()
        return left.wishes

    def _now_free(self, wants: Iterable[Want]) -> list[Want]:
        return [want for want in wants if could(self._boards[want.pool], want.shape)]


def could(board: Board, shape: str) -> bool:
    """Whether one more would fit as things lie."""
    if shape in board.dead:
        return False
    return bool(board.fixed.get(shape)) or (shape in board.room.kinds and board.spare().holds({shape: 1}))


_kept: list[Forecast] = []


def _latest(state: State, queue: Sequence[Wish], now: float) -> Forecast:
    """The forecast of this moment: many questions are asked about each."""
    if not _kept or _kept[0].asked[0] is not state or _kept[0].asked[1] is not queue or _kept[0].asked[2] != now:
        _kept[:] = [Forecast(state, queue, now)]
    return _kept[0]
