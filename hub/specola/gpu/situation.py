"""What is so now: rows, cards and settings put together as the planner and the views need them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from specola.gpu.idle import Kernel, Seen, Verdict, judge, observe
from specola.gpu.model import GpuSection, GroupGpu, Sample
from specola.gpu.planning import explain
from specola.gpu.pools import GpuPool
from specola.gpu.records import HORIZON, Usage
from specola.gpu.state import GroupShare, Holding, State, Terms, Want, Wish
from specola.gpu.store import Asked, Drained, Held, Store
from specola.gpu.waiting import wait

if TYPE_CHECKING:
    from specola.gpu.state import HoldingState

KEPT_SAMPLES = 60
NOBODY = Verdict(None, computing=False, signal="none")
MEASURED = frozenset({"active", "expiring"})


@dataclass(frozen=True)
class Snapshot:
    """One moment; what costs something is worked out at most once, and only when somebody wants it."""

    at: float
    state: State
    live: tuple[Held, ...]
    queued: tuple[Asked, ...]
    drained: tuple[Drained, ...]
    verdicts: Mapping[str, Verdict]
    _waits: dict[tuple[Want, str | None], tuple[int, int | None] | None] = field(default_factory=dict)

    @cached_property
    def wishes(self) -> tuple[Wish, ...]:
        """The queue as the planner takes it."""
        return tuple(wish_of(asked) for asked in self.queued)

    @cached_property
    def explained(self) -> Mapping[str, tuple[int, str]]:
        """Position and reason of everything that waits."""
        return dict(explain(self.state, self.wishes, self.at)) if self.queued else {}

    def wait(self, want: Want, request: str | None = None) -> tuple[int, int | None] | None:
        """How long a want takes, for a request that waits or for one that would be asked now; None: at once."""
        key = (want, request)
        if key not in self._waits:
            found = wait(self.state, self.wishes, want, self.at, request)
            self._waits[key] = None if found is None else (int(found[0]), None if found[1] is None else int(found[1]))
        return self._waits[key]


class Situation:
    """The one place that knows the rows, the cards, the settings and the time."""

    def __init__(
        self,
        store: Store,
        pools: Mapping[str, GpuPool],
        section: GpuSection,
        groups: Mapping[str, GroupGpu],
        clock: Callable[[], float],
    ) -> None:
        self.store = store
        self.pools = pools
        self.section = section
        self.groups = groups
        self.clock = clock
        self.usage = Usage(store.records(clock() - HORIZON), clock())
        self.samples: dict[str, deque[Sample]] = {}
        self.terms = Terms(
            hold=section.hold,
            idle_after=section.idle_after,
            quiet_after=section.quiet_after,
            notice=section.notice,
            youngest=section.youngest,
            saving=section.saving,
        )
        self._snapshot: Snapshot | None = None

    # now

    def changed(self) -> None:
        """Something was written: what was worked out before holds no more."""
        self._snapshot = None

    def now(self, within: float = 1.0) -> Snapshot:
        """The present moment, at most `within` seconds old and never from before a change."""
        at = self.clock()
        if self._snapshot is None or not 0 <= at - self._snapshot.at < within:
            self._snapshot = self._take(at)
        return self._snapshot

    def _take(self, at: float) -> Snapshot:
        live, queued, drained = self.store.live(), self.store.queued(), self.store.drains()
        verdicts = {held.id: self.verdict(held, at) for held in live}
        begun = {(one.pool, one.gpu) for one in drained if one.start is None or one.start <= at}
        open_pools = [pool for pool in self.pools.values() if not pool.closed]
        named = {pool.name for pool in open_pools}
        state = State(
            pools={
                pool.name: pool.state(live, {gpu for name, gpu in begun if name == pool.name}, at)
                for pool in open_pools
            },
            holdings=tuple(holding_of(held, verdicts[held.id]) for held in live if held.pool in named),
            groups=self._shares(live, at),
            terms=self.terms,
            early_release=self.usage.early_release(at),
        )
        return Snapshot(at, state, tuple(live), tuple(queued), tuple(drained), verdicts)

    def _shares(self, live: Collection[Held], at: float) -> Mapping[str, GroupShare]:
        usage = self.usage.of_groups(live, at)
        return {
            name: GroupShare(
                guaranteed=group.guaranteed_slots,
                maximum=group.max_slots,
                weight=group.weight,
                longest=self.longest(name),
                usage=usage.get(name, 0.0),
            )
            for name, group in self.groups.items()
        }

    def longest(self, group: str) -> int:
        """Longest lease of a group's members, in seconds."""
        own = self.groups[group].longest_lease if group in self.groups else None
        return self.section.longest_lease if own is None else own

    # activity

    def verdict(self, held: Held, at: float) -> Verdict:
        """Whether a lease is idle, and who says so; leases that have not begun are neither."""
        if held.state not in MEASURED or held.active is None:
            return NOBODY
        kernel = None
        if held.kernel_busy is not None and held.kernel_since is not None:
            kernel = Kernel("busy" if held.kernel_busy else "idle", held.kernel_since, held.checkpoint)
        seen = Seen(**held.seen) if held.seen else Seen()
        return judge(seen, kernel, at, begun=held.active, quiet_after=self.section.quiet_after, word=held.person_at)

    def measured(self, held: Held, sample: Sample) -> dict[str, Any]:
        """Keep a sample for the sparkline; what is stored of it."""
        self.samples.setdefault(held.id, deque(maxlen=KEPT_SAMPLES)).append(sample)
        return asdict(observe(Seen(**held.seen) if held.seen else Seen(), sample))

    def forget(self, lease: str) -> None:
        """Drop the samples of a lease that has ended."""
        self.samples.pop(lease, None)


def wish_of(asked: Asked) -> Wish:
    """A request as the planner takes it."""
    return Wish(asked.id, asked.person, asked.group, asked.wants, asked.created, asked.seconds, asked.course)


def holding_of(held: Held, verdict: Verdict) -> Holding:
    """A lease as the planner takes it."""
    state: HoldingState = "ending" if held.state == "ended" else held.state
    return Holding(
        id=held.id,
        pool=held.pool,
        slot=held.slot,
        shape=held.shape,
        person=held.person,
        group=held.group,
        state=state,
        granted=held.granted,
        active=held.active,
        expires=held.expires,
        ends_at=held.ends_at,
        idle_since=verdict.idle_since,
        reclaimable=held.reclaimable,
        computing=verdict.computing,
        course=held.course,
        cause=held.cause,
        checkpoint=held.checkpoint,
    )
