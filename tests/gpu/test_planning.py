"""What a plan promises, whatever the state: properties over random facilities, and the rules one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specola.gpu.adapters.profiles import models
from specola.gpu.planning import plan
from specola.gpu.queueing import order
from specola.gpu.state import (
    Action,
    End,
    Extend,
    GpuState,
    Grant,
    GroupShare,
    Holding,
    Lapse,
    Notice,
    PoolState,
    Slot,
    Spare,
    State,
    Want,
    Wish,
)

from . import packing_oracle as oracle

NOW = 1_000_000.0
A100, A30, RTX = (models()[name].geometry for name in ("A100-40GB", "A30-24GB", "RTX-PRO-6000-96GB"))
SHAPES = {
    "eight": ["1g", "1gx2", "2g", "3g", "4g", "7g", "1g+me"],
    "four": ["1g", "2g", "4g", "2g+me"],
    "twelve": ["1g", "2g", "4g", "1g+me", "1g+me.all", "1g-me"],
}


@st.composite
def pools(draw: st.DrawFn, name: str) -> PoolState:
    geometry = draw(st.sampled_from([A100, A100, A30, RTX]))
    gpus = []
    for index in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["free", "free", "free", "drained", "fixed", "foreign"]))
        fixed = None
        foreign: tuple[tuple[int, int], ...] = ()
        if kind == "fixed":
            shape = geometry.shapes["1g" if draw(st.booleans()) else "2g"]
            fixed = tuple((shape.name, start) for start in shape.starts)
        if kind == "foreign":
            shape = geometry.shapes[draw(st.sampled_from(["1g", "2g"]))]
            foreign = ((draw(st.sampled_from(shape.starts)), shape.size),)
        gpus.append(GpuState(f"{name}{index}", drained=kind == "drained", fixed=fixed, foreign=foreign))
    return PoolState(name, geometry, tuple(gpus))


@st.composite
def holdings(draw: st.DrawFn, pool: PoolState) -> list[Holding]:
    """Leases that can lie together on the GPUs of a pool, in any state."""
    found: list[Holding] = []
    for gpu in pool.gpus:
        parts = [(start, size, "1g" if size == pool.geometry.size("1g") else "2g") for start, size in gpu.foreign]
        choices = list(gpu.fixed or [])
        for _ in range(draw(st.integers(0, 5))):
            if gpu.fixed is not None:
                if not choices:
                    break
                shape, start = choices.pop(draw(st.integers(0, len(choices) - 1)))
            else:
                shape = draw(st.sampled_from(SHAPES[pool.geometry.name]))
                start = draw(st.sampled_from(pool.geometry.shapes[shape].starts))
            part = (start, pool.geometry.size(shape), shape)
            if not oracle.is_sound(pool.geometry, [*parts, part]):
                continue
            parts.append(part)
            found.append(draw(leases(pool.name, Slot(gpu.id, start, part[1]), shape, f"{gpu.id}/{len(found)}")))
    return found


@st.composite
def leases(draw: st.DrawFn, pool: str, slot: Slot, shape: str, name: str) -> Holding:
    state = draw(st.sampled_from(["active"] * 6 + ["expiring", "expiring", "offered", "making", "saving", "ending"]))
    begun = NOW - draw(st.sampled_from([60.0, 899.0, 900.0, 7200.0]))
    expires = NOW + draw(st.sampled_from([-1.0, 0.0, 60.0, 600.0, 5000.0]))
    idle = draw(st.one_of(st.none(), st.sampled_from([NOW - 5000, NOW - 600, NOW - 599, NOW])))
    return Holding(
        name,
        pool,
        slot,
        shape,
        "ann",
        draw(st.sampled_from("xyz")),
        state,  # type: ignore[arg-type]
        begun,
        active=begun if state in {"active", "expiring", "saving"} else None,
        expires=expires,
        ends_at=min(expires, NOW + draw(st.sampled_from([0.0, 90.0]))) if state in {"expiring", "saving"} else None,
        idle_since=idle,
        reclaimable=draw(st.integers(0, 4)) > 0,
        computing=idle is None and draw(st.booleans()),
        cause=draw(st.sampled_from(["reclaimed", "term"])) if state == "expiring" else None,
    )


@st.composite
def facilities(draw: st.DrawFn) -> tuple[State, tuple[Wish, ...]]:
    """A state and a queue."""
    found = {name: draw(pools(name)) for name in draw(st.sampled_from([("a",), ("a",), ("a", "b")]))}
    held = [holding for pool in found.values() for holding in draw(holdings(pool))]
    groups = {
        group: GroupShare(
            guaranteed=draw(st.sampled_from([0.0, 2.0, 8.0])),
            maximum=draw(st.sampled_from([None, None, 4.0, 9.0])),
            weight=draw(st.sampled_from([1.0, 3.0])),
            usage=draw(st.sampled_from([0.0, 1e4])),
        )
        for group in "xy"
    }
    queue = []
    for index in range(draw(st.integers(0, 9))):
        wants = []
        for _ in range(draw(st.sampled_from([1, 1, 1, 2]))):
            pool = found[draw(st.sampled_from(sorted(found)))]
            wants.append(Want(pool.name, draw(st.sampled_from(SHAPES[pool.geometry.name]))))
        since = NOW - draw(st.integers(0, 5000))
        queue.append(Wish(f"w{index}", "bob", draw(st.sampled_from("xyz")), tuple(wants), since))
    return State(found, tuple(held), groups), tuple(queue)


RANDOM = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


def of(kind: type[Action], actions: Sequence[Action]) -> list[Action]:
    return [action for action in actions if isinstance(action, kind)]


def grants_of(actions: Sequence[Action]) -> list[Grant]:
    return [action for action in actions if isinstance(action, Grant)]


def eighths(state: State, pool: str, shape: str) -> float:
    return state.pools[pool].geometry.eighths(shape)


def carried_out(state: State, queue: Sequence[Wish], actions: Sequence[Action]) -> tuple[State, tuple[Wish, ...]]:
    """The state when all has been done that the plan asked for; what ends or lapses is still being cleared away."""
    held = {holding.id: holding for holding in state.holdings}
    wishes = {wish.id: wish for wish in queue}
    for action in actions:
        match action:
            case Grant(wish, want, slot):
                asked = wishes.pop(wish)
                held[wish] = Holding(wish, want.pool, slot, want.shape, asked.person, asked.group, "making", NOW)
            case Notice(lease, ends_at, cause):
                held[lease] = replace(held[lease], state="expiring", ends_at=ends_at, cause=cause)
            case Spare(lease):
                held[lease] = replace(held[lease], state="active", ends_at=None, cause=None)
            case End(lease, cause):
                held[lease] = replace(held[lease], state="saving", cause=cause)
            case Lapse(lease):
                held[lease] = replace(held[lease], state="ending")
            case Extend(lease, expires):
                held[lease] = replace(held[lease], expires=expires)
    return replace(state, holdings=tuple(held.values())), tuple(wishes.values())


@given(facilities())
@RANDOM
def test_nothing_is_granted_twice_or_where_it_cannot_lie(facility: tuple[State, tuple[Wish, ...]]) -> None:
    state, queue = facility
    granted = grants_of(plan(state, queue, NOW))
    wishes = {wish.id: wish for wish in queue}
    assert len({grant.wish for grant in granted}) == len(granted)
    for grant in granted:
        assert grant.want in wishes[grant.wish].wants
    for pool in state.pools.values():
        for gpu in pool.gpus:
            new = [(g.slot, g.want.shape) for g in granted if g.slot is not None and g.slot.gpu == gpu.id]
            old = [(h.slot, h.shape) for h in state.holdings if h.slot is not None and h.slot.gpu == gpu.id]
            assert not (new and gpu.drained)
            if gpu.fixed is not None:
                assert not set(new) & set(old)
                assert all((shape, slot.start) in gpu.fixed for slot, shape in new)
                continue
            foreign = [(start, size, "1g" if size == pool.geometry.size("1g") else "2g") for start, size in gpu.foreign]
            parts = [(slot.start, slot.size, shape) for slot, shape in [*new, *old]]
            assert oracle.is_sound(pool.geometry, [*parts, *foreign])


@given(facilities())
@RANDOM
def test_no_group_passes_its_maximum(facility: tuple[State, tuple[Wish, ...]]) -> None:
    state, queue = facility
    granted = grants_of(plan(state, queue, NOW))
    wishes = {wish.id: wish for wish in queue}
    new: Counter[str] = Counter()
    for grant in granted:
        new[wishes[grant.wish].group] += eighths(state, grant.want.pool, grant.want.shape)  # type: ignore[assignment]
    for group, amount in new.items():
        share = state.groups.get(group, GroupShare())
        held = sum(eighths(state, h.pool, h.shape) for h in state.holdings if h.group == group)
        assert share.maximum is None or held + amount <= share.maximum


def room_for_more(state: State, pool: str, shape: str, before: Sequence[Grant]) -> bool:
    """By exhaustive search: would this fit beside the leases and beside these grants, wherever those would lie?"""
    known = state.pools[pool]
    geometry = known.geometry
    need = Counter(grant.want.shape for grant in before if grant.want.pool == pool) + Counter([shape])
    loose = []
    for gpu in known.gpus:
        lying = [(h.slot.start, h.slot.size, h.shape) for h in state.holdings if h.slot and h.slot.gpu == gpu.id]
        if gpu.drained:
            continue
        if gpu.fixed is None:
            lying += [(start, size, "1g" if size == geometry.size("1g") else "2g") for start, size in gpu.foreign]
            loose.append(tuple(lying))
            continue
        for name, start in gpu.fixed:
            if need[name] and not any(start == part[0] for part in lying):
                need[name] -= 1
    return oracle.fits(geometry, loose, +need)


@given(facilities())
@RANDOM
def test_nobody_waits_for_what_went_to_somebody_behind_them(facility: tuple[State, tuple[Wish, ...]]) -> None:
    """Lexicographic: whoever waits would not fit beside those before them, however these were placed."""
    state, queue = facility
    granted = {grant.wish: grant for grant in grants_of(plan(state, queue, NOW))}
    before: list[Grant] = []
    held = Counter[str]()
    for holding in state.holdings:
        held[holding.group] += eighths(state, holding.pool, holding.shape)  # type: ignore[assignment]
    for wish in order(queue, state, NOW):
        got = granted.get(wish.id)
        maximum = state.groups.get(wish.group, GroupShare()).maximum
        for want in wish.wants:
            if got is not None and got.want == want:
                break
            size = eighths(state, want.pool, want.shape)
            if maximum is None or held[wish.group] + size <= maximum:
                assert not room_for_more(state, want.pool, want.shape, before)
        if got is not None:
            before.append(got)
            held[wish.group] += eighths(state, got.want.pool, got.want.shape)  # type: ignore[assignment]


@given(facilities())
@RANDOM
def test_the_rules_protect_who_computes_who_is_young_and_who_did_not_agree(
    facility: tuple[State, tuple[Wish, ...]],
) -> None:
    state, queue = facility
    held = {holding.id: holding for holding in state.holdings}
    for action in plan(state, queue, NOW):
        if isinstance(action, Notice) and action.cause != "term":
            holding = held[action.lease]
            assert action.ends_at == NOW + state.terms.notice
            assert holding.state == "active"
            assert holding.reclaimable
            assert not holding.computing
            assert holding.idle_since is not None
            assert NOW - holding.idle_since >= 600
            assert holding.active is not None
            assert NOW - holding.active >= 900
        if isinstance(action, End):
            holding = held[action.lease]
            assert holding.state in {"active", "expiring"}
            assert min(end for end in (holding.ends_at, holding.expires) if end is not None) <= NOW


@given(facilities())
@RANDOM
def test_without_a_waiter_nobody_is_asked_to_go(facility: tuple[State, tuple[Wish, ...]]) -> None:
    state, _ = facility
    actions = plan(state, (), NOW)
    assert not [action for action in actions if isinstance(action, Notice) and action.cause != "term"]
    spared = {action.lease for action in actions if isinstance(action, Spare)}
    assert spared == {holding.id for holding in state.holdings if was_asked(holding)}


def was_asked(holding: Holding) -> bool:
    """Has had notice for somebody else, and would not end within the notice anyway."""
    if holding.state != "expiring" or holding.cause != "reclaimed" or holding.ends_at is None:
        return False
    return holding.ends_at > NOW and holding.expires is not None and holding.expires - NOW > 120


@given(facilities())
@RANDOM
def test_whoever_is_asked_to_go_is_asked_for_somebody(facility: tuple[State, tuple[Wish, ...]]) -> None:
    """When all have gone who were asked to or go anyway, more of those are served who were not before."""
    state, queue = facility
    actions = plan(state, queue, NOW)
    asked = {action.lease for action in actions if isinstance(action, Notice) and action.cause == "reclaimed"}
    if not asked:
        return
    after, left = carried_out(state, queue, actions)
    gone = [h for h in after.holdings if h.state not in {"expiring", "saving", "ending"}]
    here = [h for h in after.holdings if h.id in asked]
    with_them = {grant.wish for grant in grants_of(plan(replace(after, holdings=(*gone, *here)), left, NOW))}
    without = {grant.wish for grant in grants_of(plan(replace(after, holdings=tuple(gone)), left, NOW))}
    assert without - with_them


@given(facilities())
@RANDOM
def test_planning_again_is_the_same_and_after_carrying_out_nothing(facility: tuple[State, tuple[Wish, ...]]) -> None:
    state, queue = facility
    actions = plan(state, queue, NOW)
    assert plan(state, queue, NOW) == actions
    assert plan(*carried_out(state, queue, actions), NOW) == ()
