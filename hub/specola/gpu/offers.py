"""What is free, what a size means, who holds what: everything that only looks."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from specola.core.errors import TooMuch
from specola.gpu.api import (
    Advice,
    Allowance,
    Choice,
    CourseNeed,
    CoursePlan,
    Fragmentation,
    Gpu,
    NewRequest,
    Offers,
    Overview,
    Part,
    PoolOffer,
    ShapeOffer,
)
from specola.gpu.courses import conflicts, need
from specola.gpu.geometry import WHOLE
from specola.gpu.model import Card
from specola.gpu.packing import plain_shapes
from specola.gpu.pools import GpuPool, gaps
from specola.gpu.requesting import Requesting, never
from specola.gpu.room import free, scattered, total
from specola.gpu.situation import Situation, Snapshot
from specola.gpu.sizes import next_up, shapes_for
from specola.gpu.state import GpuState, Reserved, Want
from specola.gpu.store import Held
from specola.gpu.telling import Teller
from specola.gpu.views import choice, gib_of, held_by, moment, profile_name, seconds, waiting

DAY = 86400.0
LARGER = 3
"""how many sizes up are shown beside the one that fits"""
OLDEST = 5.0
"""seconds after which what was heard of the cards is not offered any more"""
LATE = "Its GPUs have not answered for some seconds."
NEGOTIATED = "The site decides when and where: what is free there is not known here."


class Looking:
    """Answers from the present moment, which is worked out at most once a second."""

    def __init__(self, situation: Situation, requesting: Requesting, teller: Teller) -> None:
        self._at = situation
        self._requesting = requesting
        self._tell = teller

    # offers

    def offers(self, person: str | None, groups: Collection[str]) -> Offers:
        """Every pool as the person may use it; for None, as an operator sees it."""
        snapshot = self._at.now()
        return Offers(
            at=moment(snapshot.at),
            pools=self.pools(snapshot, person, groups),
            allowances=tuple(self._allowance(snapshot, name) for name in self._requesting.groups_of(groups)),
            hold=self._at.section.hold,
        )

    def pools(self, snapshot: Snapshot, person: str | None, groups: Collection[str]) -> tuple[PoolOffer, ...]:
        """The pools of the facility file, in its order."""
        open_to = None if person is None else {pool.name for pool in self._requesting.pools_of(groups)}
        return tuple(self._pool(snapshot, pool, person, open_to) for pool in self._at.pools.values())

    def _pool(
        self, snapshot: Snapshot, pool: GpuPool, person: str | None, open_to: Collection[str] | None
    ) -> PoolOffer:
        reason = self._reason(pool, open_to)
        shown = () if pool.closed else tuple(self._gpu(snapshot, pool, card, person) for card in pool.cards)
        late = pool.places and not pool.closed and snapshot.at - pool.seen > OLDEST
        if late and not reason:
            reason = LATE
        available = not pool.closed and not pool.trouble and not late and (open_to is None or pool.name in open_to)
        return PoolOffer(
            name=pool.name,
            model=pool.model.name,
            actuator=pool.section.actuator,
            simulated=pool.simulated,
            granularity=pool.granularity,
            controls_placement=pool.places,
            available=available,
            reason=reason,
            home=pool.home,
            gpus=shown,
            shapes=self._shapes(snapshot, pool),
            queued=sum(any(want.pool == pool.name for want in asked.wants) for asked in snapshot.queued),
        )

    def _reason(self, pool: GpuPool, open_to: Collection[str] | None) -> str:
        if pool.closed or pool.trouble:
            return pool.closed or pool.trouble
        if open_to is not None and pool.name not in open_to:
            return f"It is open to: {', '.join(pool.section.groups)}."
        return "" if pool.places else NEGOTIATED

    def _shapes(self, snapshot: Snapshot, pool: GpuPool) -> tuple[ShapeOffer, ...]:
        if pool.name not in snapshot.state.pools:
            return ()
        known = snapshot.state.pools[pool.name]
        size = pool.model.geometry.size
        plain = {WHOLE, *plain_shapes(pool.model.geometry)}
        ordered = sorted(known.shapes & plain, key=lambda shape: (size(shape), gib_of(pool.model, shape), shape))
        return tuple(
            ShapeOffer(
                shape=shape,
                profile=profile_name(pool.model, shape),
                gib=gib_of(pool.model, shape),
                slots=pool.model.geometry.eighths(shape),
                free=free(snapshot.state, pool.name, shape),
                total=total(known, shape),
                wait=waiting(snapshot.wait(Want(pool.name, shape))),
            )
            for shape in ordered
        )

    def _gpu(self, snapshot: Snapshot, pool: GpuPool, card: Card, person: str | None) -> Gpu:
        state = next(gpu for gpu in snapshot.state.pools[pool.name].gpus if gpu.id == card.id)
        mine = [held for held in snapshot.live if held.pool == pool.name and held.gpu == card.id]
        drained = [one for one in snapshot.drained if (one.pool, one.gpu) == (pool.name, card.id)]
        return Gpu(
            id=card.id,
            index=card.index,
            slots=pool.model.geometry.slots,
            parts=tuple(
                sorted(
                    [
                        *(self._part(snapshot, held, mine=held.person == person) for held in mine),
                        *_others(pool, card, state, mine),
                    ],
                    key=lambda part: part.start,
                )
            ),
            drained=state.drained,
            healthy=card.healthy,
            reason=card.reason or next((one.reason for one in drained), ""),
        )

    @staticmethod
    def _part(snapshot: Snapshot, held: Held, *, mine: bool) -> Part:
        idle = snapshot.verdicts[held.id].idle_since is not None
        return Part(
            start=held.start or 0,
            size=held.size or 0,
            shape=held.shape,
            state="idle" if idle else "busy",
            mine=mine,
            lease=held.id if mine else None,
        )

    def _allowance(self, snapshot: Snapshot, name: str) -> Allowance:
        group = self._at.groups[name]
        return Allowance(
            group=name,
            used_slots=sum(held.slots for held in snapshot.live if held.group == name),
            max_slots=group.max_slots,
            guaranteed_slots=group.guaranteed_slots,
            longest_minutes=self._at.longest(name) // 60,
        )

    # advice

    def advice(self, groups: Collection[str], gib: float, minutes: int, pool: str | None) -> Advice:
        """What a size in GiB comes down to, the next ones up, and what is smaller and free at once."""
        try:
            found = self._requesting.resolve(groups, NewRequest(gib=gib, minutes=minutes, pool=pool))
        except TooMuch as refusal:
            return Advice(choice=None, text=f"{refusal.title}. {refusal.detail}".strip())
        best = self._choice(found.wants[0])
        others = [self._choice(want) for want in found.wants[1:]]
        pools = [one for one in self._requesting.pools_of((found.group,)) if pool in {None, one.name}]
        larger = [
            self._choice(Want(one.name, shape))
            for one in pools
            for shape in shapes_for(gib, one.model)
            if shape in one.shapes() and Want(one.name, shape) not in found.wants
        ]
        larger.sort(key=lambda other: (other.slots, other.gib))
        return Advice(choice=best, alternatives=(*others, *larger[:LARGER]), text=_advise(best, larger))

    def _choice(self, want: Want) -> Choice:
        snapshot = self._at.now()
        count = free(snapshot.state, want.pool, want.shape)
        return choice(self._at.pools[want.pool], want, free=count, wait=waiting(snapshot.wait(want)))

    # courses, operators

    def plan_course(self, plan: CoursePlan) -> CourseNeed:
        """How many GPUs a course takes, and whether the pool has them; nothing is reserved."""
        pool = self._at.pools.get(plan.pool)
        if pool is None or pool.closed:
            raise never("There is no such pool", f"There are: {', '.join(self._at.pools)}.")
        if plan.shape not in pool.shapes():
            raise never("There is no such shape here", f"There are: {', '.join(sorted(pool.shapes()))}.")
        snapshot = self._at.now()
        state = snapshot.state.pools[plan.pool]
        needed = need(pool.model, plan.shape, plan.seats, plan.show_up)
        start = snapshot.at if plan.start is None else seconds(plan.start)
        end = start + DAY if plan.end is None else seconds(plan.end)
        course = Reserved("this course", plan.pool, plan.shape, needed.attendance, start, end)
        found = conflicts(state, course, snapshot.state.reserved, snapshot.state.holdings) if pool.places else ()
        gpus = f"{needed.gpus} GPU{'' if needed.gpus == 1 else 's'}"
        text = (
            f"{needed.attendance} of {plan.seats} come at most, with a probability of 99 %. "
            f"One {pool.model.name} holds {needed.per_gpu} slices {profile_name(pool.model, plan.shape)}: {gpus}."
        )
        return CourseNeed(
            attendance=needed.attendance,
            per_gpu=needed.per_gpu,
            gpus=needed.gpus,
            enough=pool.places and not found,
            conflicts=found if pool.places else (NEGOTIATED,),
            text=text,
        )

    def overview(self) -> Overview:
        """Who holds what since when, who waits, how scattered the free room is."""
        snapshot = self._at.now()
        fragments = [
            Fragmentation(pool=name, shape=shape, now=now, joined=joined)
            for name, pool in self._at.pools.items()
            if name in snapshot.state.pools and pool.places
            for shape, (now, joined) in scattered(snapshot.state, name).items()
        ]
        return Overview(
            at=moment(snapshot.at),
            held=tuple(held_by(held, snapshot.verdicts[held.id]) for held in snapshot.live),
            queued=tuple(self._tell.request_of(asked) for asked in snapshot.queued),
            fragmentation=tuple(fragments),
            gpus=self.pools(snapshot, None, ()),
        )


def _others(pool: GpuPool, card: Card, state: GpuState, mine: Sequence[Held]) -> list[Part]:
    """What is on a GPU besides leases, and its free room: in one piece, or as the slices of its layout."""
    geometry = pool.model.geometry
    foreign = pool.foreign(card, mine)
    parts = [Part(start=start, size=size, state="other") for start, size in foreign]
    lies = [*foreign, *((slot.start, slot.size) for held in mine if (slot := held.slot) is not None)]
    if state.fixed is None:
        return parts + [Part(start=start, size=size, state="free") for start, size in gaps(geometry.slots, lies)]
    return parts + [
        Part(start=start, size=geometry.size(shape), shape=shape, state="free")
        for shape, start in state.fixed
        if not any(other < start + geometry.size(shape) and start < other + size for other, size in lies)
    ]


def _advise(best: Choice, larger: Sequence[Choice]) -> str:
    """One line about the size, and one when the next size up costs much more."""
    return f"{best.text}. {_soon(best)} {next_up(best, larger)}".strip()


def _soon(choice: Choice) -> str:
    if choice.wait is None:
        return "It is free now."
    low, high = round(choice.wait.low / 60), None if choice.wait.high is None else round(choice.wait.high / 60)
    if high is None:
        return f"It is taken for at least {low} minutes." if low else "It is taken, and nobody can say for how long."
    return f"It is taken; the wait is {low} to {high} minutes."
