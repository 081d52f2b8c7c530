"""Sessions at a facility under one policy: the planner decides, events move the time.

A policy is a set of switches: what a session asks for, whether it holds a slice for as long as it lasts or on lease,
and when an idle lease ends. Everything that is granted, asked back, spared or ended is an action of `plan()`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush

from specola.gpu.adapters.profiles import models
from specola.gpu.packing import place
from specola.gpu.planning import plan
from specola.gpu.state import End, GpuState, Grant, Holding, Notice, PoolState, Spare, State, Terms, Want, Wish

from bench.sharing_trace import HOUR, Session

GEOMETRY = models()["A100-40GB"].geometry
POOL = "a100"
SETUP, RELOAD, RESTORE, SAVE = 25.0, 40.0, 10.0, 15.0
IN_TIME = 60.0
CULL = 1 * HOUR
IDLE = 600.0
QUIET_AFTER = 1800.0
TERM = 12 * HOUR
"""terms that do not bind: everybody asks for their day"""
LARGER = {
    "1g": ("1g", "1gx2", "2g"),
    "1gx2": ("1gx2", "2g", "3g", "4g"),
    "2g": ("2g", "3g", "4g"),
    "3g": ("3g", "4g", "7g"),
    "4g": ("4g", "7g"),
    "7g": ("7g",),
}
"""on a fixed layout: the slices that are large enough, up to twice the size"""


@dataclass(frozen=True)
class Policy:
    """How slices are held."""

    name: str
    title: str
    whole: bool = False
    """everybody gets a whole GPU"""
    fixed: bool = False
    leased: bool = False
    """bursts are served on lease, not sessions"""
    on_demand: bool = False
    """idle leases are asked back when somebody waits, and only then; else they end after ten idle minutes"""
    warned: bool = False
    """whoever is idle for ten minutes is told that the slice may go: the notice counts from then"""


POLICIES = {
    one.name: one
    for one in (
        Policy("A", "a whole GPU per session", whole=True, fixed=True),
        Policy("B", "all-balanced layout, every sixth GPU whole", fixed=True),
        Policy("C", "searched fixed layout", fixed=True),
        Policy("D", "MIG on demand, per session"),
        Policy("E", "searched fixed layout, leases of 10 idle min", fixed=True, leased=True),
        Policy("F", "MIG on demand, leases of 10 idle min", leased=True),
        Policy("G", "MIG on demand, idle leases asked back on demand", leased=True, on_demand=True),
        Policy("H", "as G, idle leases warned beforehand", leased=True, on_demand=True, warned=True),
        Policy("S", "searched fixed layout, asked back on demand", fixed=True, leased=True, on_demand=True),
    )
}


@dataclass
class Tally:
    """What people met."""

    asked: int = 0
    in_time: int = 0
    gave_up: int = 0
    starts: int = 0
    """first requests of sessions, which are among those asked"""
    starts_in_time: int = 0
    starts_given_up: int = 0
    sessions: Mapping[bool, int] = field(default_factory=lambda: {False: 0, True: 0})
    """by whether they registered a checkpoint"""
    lost: int = 0
    """kernel states that were gone when their session went on"""
    restored: int = 0
    """the same, but a checkpoint brought them back"""
    busy: float = 0.0
    """slot-seconds in which something computed"""

    def add(self, other: Tally) -> None:
        """Together with another run."""
        self.asked += other.asked
        self.in_time += other.in_time
        self.gave_up += other.gave_up
        self.starts += other.starts
        self.starts_in_time += other.starts_in_time
        self.starts_given_up += other.starts_given_up
        self.lost += other.lost
        self.restored += other.restored
        self.busy += other.busy
        self.sessions = {key: self.sessions[key] + other.sessions[key] for key in (False, True)}

    @property
    def good(self) -> bool:
        """95 % in 60 s, and at most 2 % give up."""
        return self.in_time >= 0.95 * self.asked and self.gave_up <= 0.02 * self.asked

    @property
    def good_starts(self) -> bool:
        """The same of the starts of sessions alone: on lease, most bursts find their slice still there."""
        return self.starts_in_time >= 0.95 * self.starts and self.starts_given_up <= 0.02 * self.starts

    @property
    def losses(self) -> float:
        """Lost states of a session that registered no checkpoint."""
        return self.lost / max(1, self.sessions[False])

    @property
    def restores(self) -> float:
        """States that a checkpoint brought back, per session that registered one."""
        return self.restored / max(1, self.sessions[True])


@dataclass(slots=True, eq=False)
class Person:
    """Where a session stands."""

    session: Session
    step: int = 0
    asked: float = 0.0
    lease: str | None = None
    had: bool = False
    """a kernel of it has run before"""
    gone: bool = False
    turn: int = 0
    """events of an earlier turn are out of date"""


class Run:
    """One policy, one trace, so many GPUs."""

    def __init__(self, policy: Policy, sessions: Sequence[Session], layout: Sequence[Sequence[str]] | int) -> None:
        self.policy = policy
        self.tally = Tally()
        gpus = (
            tuple(GpuState(f"g{index:03}") for index in range(layout))
            if isinstance(layout, int)
            else tuple(GpuState(f"g{index:03}", fixed=lay(shapes)) for index, shapes in enumerate(layout))
        )
        self.pools = {POOL: PoolState(POOL, GEOMETRY, gpus)}
        self.holdings: dict[str, Holding] = {}
        self.owners: dict[str, Person] = {}
        self.queue: dict[str, tuple[Wish, Person]] = {}
        self.now = 0.0
        self._terms = Terms(warned=policy.warned)
        self._events: list[tuple[float, int, str, object, int]] = []
        self._number = 0
        for session in sessions:
            counts = dict(self.tally.sessions)
            counts[session.checkpoint] += 1
            self.tally.sessions = counts
            self._at(session.start, "begin", Person(session), 0)

    def _at(self, when: float, what: str, whom: object, turn: int = 0) -> None:
        self._number += 1
        heappush(self._events, (when, self._number, what, whom, turn))

    def play(self) -> Tally:
        """To the end."""
        acts = {
            "begin": self._begin,
            "burst": self._burst,
            "pause": self._pause,
            "patience": self._patience,
            "idle": self._idle,
            "quiet": self._quiet,
            "cull": self._cull,
        }
        while self._events:
            self.now = self._events[0][0]
            while self._events and self._events[0][0] <= self.now:
                _, _, what, whom, turn = heappop(self._events)
                if isinstance(whom, Person):
                    if turn == whom.turn:
                        acts[what](whom)
                elif what == "free":
                    self.holdings.pop(str(whom), None)
                elif what == "ready" and str(whom) in self.holdings:
                    self._up(str(whom))
            if self.queue or any(one.state == "expiring" for one in self.holdings.values()):
                self._plan()
        return self.tally

    # what people do

    def _begin(self, person: Person) -> None:
        if self.policy.leased:
            self._burst(person)
        else:
            self._ask(person)

    def _burst(self, person: Person) -> None:
        """The next burst begins: on the slice that is held, or with a request."""
        holding = None if person.lease is None else self.holdings.get(person.lease)
        if holding is not None and holding.state in {"active", "expiring"}:
            self.tally.asked += 1
            self.tally.in_time += 1
            self.holdings[holding.id] = replace(holding, computing=True, idle_since=None)
            self._run(person, 0.0)
        else:
            self._ask(person)

    def _ask(self, person: Person) -> None:
        self.tally.asked += 1
        self.tally.starts += person.step == 0
        person.asked, person.turn = self.now, person.turn + 1
        session = person.session
        shapes = ("7g",) if self.policy.whole else LARGER[session.shape] if self.policy.fixed else (session.shape,)
        name = f"{session.number:05}.{person.step:04}"
        wants = tuple(Want(POOL, shape) for shape in shapes)
        self.queue[name] = (Wish(name, f"p{session.number}", "all", wants, self.now, int(TERM)), person)
        patience = session.steps[person.step].patience if self.policy.leased else session.patience
        self._at(self.now + patience, "patience", person, person.turn)

    def _patience(self, person: Person) -> None:
        """Gives up: a burst where bursts are served, else the session."""
        name = f"{person.session.number:05}.{person.step:04}"
        if self.queue.pop(name, None) is None:
            return
        self.tally.gave_up += 1
        self.tally.starts_given_up += person.step == 0
        if self.policy.leased:
            self._go_on(person, person.session.steps[person.step].gap)

    def _run(self, person: Person, delay: float) -> None:
        burst = person.session.steps[person.step].burst
        self.tally.busy += burst * GEOMETRY.size(person.session.shape)
        person.turn += 1
        self._at(self.now + delay + burst, "pause", person, person.turn)

    def _pause(self, person: Person) -> None:
        """A burst is over: the slice is idle, unless the kernel goes on without the GPU."""
        step = person.session.steps[person.step]
        holding = self.holdings[person.lease or ""]
        last = person.step + 1 == len(person.session.steps)
        quiet = step.quiet and not last
        self.holdings[holding.id] = replace(holding, computing=quiet, idle_since=None if quiet else self.now)
        if last:
            person.gone, person.turn = True, person.turn + 1
            self._at(self.now + (0 if person.session.stops else CULL), "cull", person, person.turn)
        else:
            self._go_on(person, step.gap)
        if not quiet:
            self._at(self.now + IDLE, "idle", person, person.turn)
        elif person.session.checkpoint:
            self._at(self.now + QUIET_AFTER, "quiet", person, person.turn)

    def _go_on(self, person: Person, gap: float) -> None:
        person.turn += 1
        if person.step + 1 == len(person.session.steps):
            person.gone = True
            return
        person.step += 1
        self._at(self.now + gap, "burst", person, person.turn)

    # what becomes of leases

    def _cull(self, person: Person) -> None:
        """The server was stopped, or is culled."""
        if person.lease in self.holdings:
            self.holdings.pop(person.lease or "")

    def _idle(self, person: Person) -> None:
        """Idle for so long that the planner may look, or that the lease ends for it."""
        holding = self.holdings.get(person.lease or "")
        if self.policy.leased and not self.policy.on_demand and holding is not None and holding.state == "active":
            self._end(holding.id)

    def _quiet(self, person: Person) -> None:
        """The kernel is busy, but its GPU has been quiet for long, and it can save itself: that is idle."""
        holding = self.holdings.get(person.lease or "")
        if holding is not None:
            self.holdings[holding.id] = replace(holding, computing=False, idle_since=self.now - QUIET_AFTER)
            self._idle(person)

    def _end(self, lease: str) -> None:
        """It saves itself and goes."""
        person = self.owners[lease]
        holding = self.holdings[lease]
        self.holdings[lease] = replace(holding, state="saving")
        self._at(self.now + SAVE, "free", lease)
        person.lease = None
        if person.gone:
            return
        if person.session.checkpoint:
            self.tally.restored += 1
        else:
            self.tally.lost += 1

    def _up(self, lease: str) -> None:
        self.holdings[lease] = replace(self.holdings[lease], state="active", active=self.now)

    def _plan(self) -> None:
        wishes = tuple(wish for wish, _ in self.queue.values())
        state = State(self.pools, tuple(self.holdings.values()), terms=self._terms)
        for action in plan(state, wishes, self.now):
            match action:
                case Grant():
                    self._granted(action)
                case Notice(lease, ends_at, _) if self.policy.on_demand:
                    self.holdings[lease] = replace(
                        self.holdings[lease], state="expiring", ends_at=ends_at, cause="reclaimed"
                    )
                    self._at(ends_at, "wake", lease)
                case Spare(lease):
                    self.holdings[lease] = replace(self.holdings[lease], state="active", ends_at=None, cause=None)
                case End(lease):
                    self._end(lease)

    def _granted(self, grant: Grant) -> None:
        _, person = self.queue.pop(grant.wish)
        person.lease = grant.wish
        self.owners[grant.wish] = person
        waited = self.now - person.asked + SETUP
        self.tally.in_time += waited <= IN_TIME
        self.tally.starts_in_time += waited <= IN_TIME and person.step == 0
        self.holdings[grant.wish] = Holding(
            grant.wish,
            POOL,
            grant.slot,
            grant.want.shape,
            f"p{person.session.number}",
            "all",
            "making",
            self.now,
            expires=self.now + TERM,
            computing=True,
            reclaimable=self.policy.on_demand,
            checkpoint=person.session.checkpoint,
        )
        self._at(self.now + SETUP, "ready", grant.wish)
        delay = SETUP
        if person.had:
            delay += RESTORE if person.session.checkpoint else RELOAD
        person.had = True
        if self.policy.leased:
            self._run(person, delay)
        else:
            self._whole_session(person)

    def _whole_session(self, person: Person) -> None:
        """Held from coming to leaving: what happens in between is of no consequence to anybody else."""
        person.gone, person.turn = True, person.turn + 1
        session = person.session
        self.tally.busy += sum(step.burst for step in session.steps) * GEOMETRY.size(session.shape)
        self._at(self.now + SETUP + session.length + (0 if session.stops else CULL), "cull", person, person.turn)


def lay(shapes: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """A layout of one GPU with a start for every slice."""
    need: dict[str, int] = {}
    for shape in shapes:
        need[shape] = need.get(shape, 0) + 1
    placed = place(GEOMETRY, [()], need)
    if placed is None:
        message = f"{shapes} do not fit on one GPU"
        raise ValueError(message)
    return tuple((shape, start) for shape, _, start in placed)
