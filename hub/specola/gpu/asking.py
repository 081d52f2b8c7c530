"""Asking idle leases to go, and telling those to stay whose going is of no use any more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from specola.gpu.board import Board
from specola.gpu.desk import Desk, Left
from specola.gpu.keeping import Kept, overlap
from specola.gpu.phases import Phases
from specola.gpu.queueing import Census, census, ordered
from specola.gpu.reclaiming import Candidate, Position, Search
from specola.gpu.state import Action, Cause, Grant, GroupShare, Holding, Notice, Slot, Spare, State, Want, Wish

NEGOTIATION = 120.0
"""seconds that a site's own negotiator may take before one of its starting leases counts as waiting"""

_EVERYBODY = GroupShare()
_NOWHERE = Slot("", 0, 0)


class Asking:
    """Serve those who still wait: by what goes anyway, then by asking idle leases to go."""

    def __init__(
        self, state: State, sorted_out: Phases, counted: Census, kept: Kept, *, grants: Iterable[Grant], now: float
    ) -> None:
        self.state, self.counted, self.now = state, counted, now
        self._causes: dict[str, Cause] = {}
        self._going = sorted_out.going
        self._candidates = [
            Candidate(holding, holding.slot or _NOWHERE, self._size(holding), holding.state == "expiring")
            for holding in (*sorted_out.noticed, *sorted_out.idle)
            if holding.pool in state.pools
        ]
        leaving = {holding.id for holding in self._going} | {one.holding.id for one in self._candidates}
        self._boards = self._staying(leaving, grants, kept)
        self._searches = {
            name: Search(board, [one for one in self._candidates if one.holding.pool == name])
            for name, board in self._boards.items()
        }
        for holding in self._going:
            counted.held[holding.group] -= self._size(holding)
        self._for_courses(kept)
        self._for_sites()

    def _size(self, holding: Holding) -> float:
        return self.counted.sizes.get(holding.pool, {}).get(holding.shape, 0.0)

    def _staying(self, leaving: set[str], grants: Iterable[Grant], kept: Kept) -> dict[str, Board]:
        """Boards with everything that stays: no candidates, nothing that goes anyway."""
        boards = {name: Board(pool) for name, pool in self.state.pools.items()}
        for name, board in boards.items():
            board.occupy([one for one in self.state.holdings if one.pool == name and one.id not in leaving])
        for grant in grants:
            if grant.slot is not None:
                boards[grant.want.pool].take(grant.slot, grant.want.shape)
        for pool, slot, shape in (*kept.aside, *kept.emptied):
            boards[pool].take(slot, shape)
        return boards

    def _choose(self, candidates: Iterable[Candidate], cause: Cause = "reclaimed") -> None:
        for candidate in candidates:
            candidate.chosen = True
            self._causes[candidate.holding.id] = cause
            self.counted.held[candidate.holding.group] -= candidate.size

    def _for_courses(self, kept: Kept) -> None:
        for one in self._candidates:
            if any(pool == one.holding.pool and overlap(slot, one.slot) for pool, slot, _ in kept.emptied):
                self._choose([one], "drained")

    def _for_sites(self) -> None:
        """Where a site places, its starting leases are the queue: as many of the same shape are asked to go."""
        waiting: dict[Want, int] = {}
        if all(pool.places for pool in self.state.pools.values()):
            return
        for holding in self.state.holdings:
            pool = self.state.pools.get(holding.pool)
            if pool is None or pool.places:
                continue
            want = Want(holding.pool, holding.shape)
            if holding.state == "starting" and self.now - holding.granted >= NEGOTIATION:
                waiting[want] = waiting.get(want, 0) + 1
        for holding in self._going:
            want = Want(holding.pool, holding.shape)
            if want in waiting:
                waiting[want] -= 1
        for want, number in waiting.items():
            able = [one for one in self._candidates if (one.holding.pool, one.holding.shape) == (want.pool, want.shape)]
            self._choose(sorted(able, key=_least)[: max(0, number)])

    def serve(self, left: Left) -> Left:
        """Find room for those who wait; those for whom there is none stay on the list."""
        if self._going or self._causes:
            left = self._soon(left)
        unserved: list[Wish] = []
        open_ones = sum(not one.chosen for one in self._candidates)
        for at, wish in enumerate(left.wishes):
            if not open_ones:
                unserved += left.wishes[at:]
                break
            before = len(self._causes)
            if not self._ask(wish):
                unserved.append(wish)
            open_ones -= len(self._causes) - before
        return Left(unserved, left.limited)

    def _now(self) -> dict[str, Board]:
        """Boards as they will be when all who go are gone."""
        boards = {name: board.copy() for name, board in self._boards.items()}
        for one in self._candidates:
            if not one.chosen:
                boards[one.holding.pool].occupy([one.holding])
        return boards

    def _soon(self, left: Left) -> Left:
        """Admit those for whom what goes anyway is enough, in the order of the queue when it is gone."""
        gone = {holding.id for holding in self._going} | self._causes.keys()
        then = replace(self.state, holdings=tuple(one for one in self.state.holdings if one.id not in gone))
        desk = Desk(self._now(), self.counted, self.state.groups)
        admitted, rest = desk.admit(ordered(left.wishes, then, census(then, self.now), self.now))
        self._settle(desk.place(admitted))
        return rest

    def _settle(self, grants: Iterable[Grant]) -> None:
        for grant in grants:
            if grant.slot is not None:
                self._boards[grant.want.pool].take(grant.slot, grant.want.shape)
                self._searches[grant.want.pool].changed(grant.slot.gpu)

    def _ask(self, wish: Wish) -> bool:
        maximum = self.state.groups.get(wish.group, _EVERYBODY).maximum
        best: tuple[Position, Want] | None = None
        for want in wish.wants:
            size = self.counted.sizes.get(want.pool, {}).get(want.shape)
            if size is None:
                continue
            over = 0.0 if maximum is None else self.counted.held[wish.group] + size - maximum
            if over > 0:
                if self._within_group(wish, over):
                    return True
                continue
            position = self._position(want)
            if position is not None and (best is None or position.cost < best[0].cost):
                best = (position, want)
        if best is None:
            return False
        self._take(*best, wish.group)
        return True

    def _position(self, want: Want) -> Position | None:
        board = self._boards[want.pool]
        if not board.pool.places or want.shape not in board.room.kinds:
            return None
        return self._searches[want.pool].best(want.shape)

    def _take(self, position: Position, want: Want, group: str) -> None:
        self._choose(self._searches[want.pool].take(position, want.shape))
        self.counted.held[group] += self.counted.sizes[want.pool][want.shape]

    def _within_group(self, wish: Wish, over: float) -> bool:
        """A group at its maximum makes room among its own idle leases, as few as will do, or not at all."""
        own = [one for one in self._candidates if one.holding.group == wish.group and not one.chosen]
        chosen = _enough(own, over)
        if not chosen:
            return False
        self._choose(chosen)
        for one in chosen:
            if one.slot is not _NOWHERE:
                self._searches[one.holding.pool].changed(one.slot.gpu)
        desk = Desk(self._now(), self.counted, self.state.groups)
        admitted, _ = desk.admit([wish])
        if admitted:
            self._settle(desk.place(admitted))
            return True
        for one in chosen:
            one.chosen = False
            del self._causes[one.holding.id]
            self.counted.held[one.holding.group] += one.size
            if one.slot is not _NOWHERE:
                self._searches[one.holding.pool].changed(one.slot.gpu)
        return False

    def actions(self) -> list[Action]:
        """Notices to those who were chosen and have none, and the word to stay for the others who have."""
        stay = [Spare(one.holding.id) for one in self._candidates if one.asked and not one.chosen]
        go = [one.holding for one in self._candidates if one.chosen and not one.asked]
        return [*stay, *(Notice(one.id, self._ends_at(one), self._causes[one.id]) for one in go)]

    def _ends_at(self, holding: Holding) -> float:
        terms = self.state.terms
        if not terms.warned or holding.idle_since is None:
            return self.now + terms.notice
        return max(self.now, holding.idle_since + terms.idle_after + terms.notice)


def _least(candidate: Candidate) -> tuple[bool, float, float]:
    """Asked before, smallest, least recently used."""
    return (not candidate.asked, candidate.size, candidate.holding.idle_since or 0.0)


def _enough(own: Sequence[Candidate], over: float) -> list[Candidate]:
    """As few leases as give so many eighths back; none when all together do not."""
    alone = [one for one in own if one.size >= over]
    if alone:
        return [min(alone, key=_least)]
    found: list[Candidate] = []
    for one in sorted(own, key=lambda one: (not one.asked, -one.size, one.holding.idle_since or 0.0)):
        found.append(one)
        over -= one.size
        if over <= 0:
            return found
    return []
