"""The one decision: given what there is, who holds what and who waits, what is to be done now.

`plan` is a pure function. It names the same actions as long as they have not been carried out, and none twice once
they have; it moves no running slice, and takes a slice from nobody who computes, whose lease is young, or who has not
agreed to it. What it does, in this order:

1. leases whose time has come end, offers that nobody took lapse;
2. what courses have reserved is set aside (`keeping`);
3. the queue is admitted in its order (`queueing`, `desk`), exactly as much as fits (`packing`);
4. whoever still waits, and is not served by what ends anyway, has idle leases asked to go (`reclaiming`); those whose
   going is of use to nobody any more may stay;
5. leases that compute are renewed while nobody waits for their slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from specola.gpu.asking import Asking
from specola.gpu.board import Board
from specola.gpu.desk import Desk, Left
from specola.gpu.keeping import Kept, keep, overlap
from specola.gpu.phases import RENEW_BY, Phases, phases
from specola.gpu.queueing import Census, census, ordered
from specola.gpu.state import Action, Extend, Grant, GroupShare, Holding, Slot, Spare, State, Wish

_EVERYBODY = GroupShare()


def plan(state: State, queue: Sequence[Wish], now: float) -> tuple[Action, ...]:
    """What is to be done now; the same answer until it is done."""
    sorted_out = phases(state, now)
    counted = census(state, now)
    boards = occupied(state)
    kept = keep(state, boards, counted, now) if state.reserved else Kept()
    desk = Desk(boards, counted, state.groups, kept.open)
    admitted, left = desk.admit(ordered(queue, state, counted, now))
    grants = desk.place(admitted)
    actions: list[Action] = [*sorted_out.over, *grants]
    actions += [Spare(holding.id) for holding in sorted_out.resumed]
    if sorted_out.noticed or ((sorted_out.idle or sorted_out.going) and (left.wishes or kept.emptied)):
        asking = Asking(state, sorted_out, counted, kept, grants=grants, now=now)
        left = asking.serve(left)
        actions += asking.actions()
    if sorted_out.renewable:
        actions += _renewals(state, sorted_out, kept, left, grants)
    return tuple(actions)


def occupied(state: State) -> dict[str, Board]:
    """Every pool with all its leases."""
    boards = {name: Board(pool) for name, pool in state.pools.items()}
    if len(boards) == 1:
        (name,) = boards
        boards[name].occupy(holding for holding in state.holdings if holding.pool == name)
        return boards
    for name, board in boards.items():
        board.occupy([holding for holding in state.holdings if holding.pool == name])
    return boards


def _renewals(state: State, sorted_out: Phases, kept: Kept, left: Left, grants: Sequence[Grant]) -> list[Action]:
    """More time for leases that compute and that nobody waits for."""
    placed = [(grant.want.pool, grant.slot, grant.want.shape) for grant in grants if grant.slot is not None]
    found: list[Action] = []
    limited = left.limited
    waited = {(want.pool, want.shape) for wish in left.wishes if wish.id not in limited for want in wish.wants}
    at_maximum = {wish.group for wish in left.wishes if wish.id in limited}
    for holding in sorted_out.renewable:
        begun = holding.granted if holding.active is None else holding.active
        longest = state.groups.get(holding.group, _EVERYBODY).longest
        current = holding.expires or 0.0
        expires = min(current + RENEW_BY, begun + longest)
        if expires <= current or holding.group in at_maximum:
            continue
        if not _is_waited_for(state, holding, kept, waited, placed):
            found.append(Extend(holding.id, expires))
    return found


def _is_waited_for(
    state: State, holding: Holding, kept: Kept, waited: set[tuple[str, str]], placed: Sequence[tuple[str, Slot, str]]
) -> bool:
    """Whether the end of this lease would serve somebody who waits, a course, or an operator who drains its GPU."""
    pool, slot = state.pools.get(holding.pool), holding.slot
    if pool is None:
        return True
    if slot is None or not pool.places:
        queued = any(one.state == "starting" and one.pool == holding.pool for one in state.holdings)
        return queued or (holding.pool, holding.shape) in waited
    if any(name == holding.pool and overlap(slot, place) for name, place, _ in kept.emptied):
        return True
    gpu = next((gpu for gpu in pool.gpus if gpu.id == slot.gpu), None)
    if gpu is None or gpu.drained:
        return True
    shapes = [shape for name, shape in waited if name == holding.pool]
    if gpu.fixed is not None:
        return holding.shape in shapes
    return bool(shapes) and _would_serve(state, holding, slot, shapes, [*placed, *kept.aside])


def _would_serve(
    state: State, holding: Holding, slot: Slot, shapes: Iterable[str], placed: Sequence[tuple[str, Slot, str]]
) -> bool:
    pool = state.pools[holding.pool]
    board = Board(pool)
    board.occupy(one for one in state.holdings if one.pool == pool.name and one.id != holding.id)
    for name, place, shape in placed:
        if name == pool.name:
            board.take(place, shape)
    card = board.cards[board.index[slot.gpu]]
    return any(
        overlap(Slot(slot.gpu, start, pool.geometry.size(shape)), slot)
        for shape in shapes
        if shape in board.room.kinds
        for start in board.room.starts(card, shape)
    )


def explain(state: State, queue: Sequence[Wish], now: float) -> Mapping[str, tuple[int, str]]:
    """Place in the queue of every wish (1 is next), and why it waits, in a sentence."""
    counted = census(state, now)
    boards = occupied(state)
    kept = keep(state, boards, counted, now) if state.reserved else Kept()
    line = ordered(queue, state, counted, now)
    desk = Desk(boards, counted, state.groups, kept.open)
    _, left = desk.admit(line)
    waiting = {wish.id for wish in left.wishes}
    return {
        wish.id: (
            position,
            _reason(state, counted, kept, wish, limited=wish.id in left.limited)
            if wish.id in waiting
            else "A slice is free and is being made ready.",
        )
        for position, wish in enumerate(line, start=1)
    }


def _reason(state: State, counted: Census, kept: Kept, wish: Wish, *, limited: bool) -> str:
    known = [want for want in wish.wants if want.pool in state.pools]
    if not known:
        return "Its pool of GPUs is not there at present."
    if limited:
        maximum = state.groups.get(wish.group, _EVERYBODY).maximum
        return f"Group {wish.group} holds {counted.held[wish.group]:g} of the {maximum:g} slots that it may have."
    names = " or ".join(dict.fromkeys(want.shape for want in known))
    if any(pool == want.pool for pool, _, _ in kept.emptied for want in known) or any(kept.open.values()):
        return f"No {names} is free; some are kept for a course."
    if any(holding.state == "expiring" and holding.pool == want.pool for holding in state.holdings for want in known):
        return f"No {names} is free; a slice has been asked back."
    return f"No {names} is free at present."
