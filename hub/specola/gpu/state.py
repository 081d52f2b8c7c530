"""What the planner knows and what it answers: plain values, no I/O.

Vocabulary: a *shape* is a kind of slice (`1g`, `1gx2`, `3g`, …, or `whole` for a GPU without MIG); a *slot* is where
one lies, `(gpu, start, size)` on the placement axis of its GPU; a *wish* is a queued request; a *holding* is a lease
that occupies a slot. Amounts that limits and records speak of are in eighths of a GPU. Times are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from specola.gpu.geometry import Geometry

Cause = Literal["term", "reclaimed", "drained", "released"]
"""Why a lease comes to its end."""

HoldingState = Literal["making", "offered", "starting", "active", "expiring", "saving", "ending"]


@dataclass(frozen=True, slots=True)
class Slot:
    """`size` units of a GPU's placement axis, from `start` on."""

    gpu: str
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Want:
    """One acceptable answer to a wish."""

    pool: str
    shape: str


@dataclass(frozen=True, slots=True)
class Wish:
    """A queued request, with what it would accept in order of preference."""

    id: str
    person: str
    group: str
    wants: tuple[Want, ...]
    since: float
    """when it was first asked; kept when an unclaimed grant comes back"""
    seconds: int = 3600
    course: str | None = None


@dataclass(frozen=True, slots=True)
class Holding:
    """A lease as the planner sees it."""

    id: str
    pool: str
    slot: Slot | None
    """None where the site's own negotiator chooses"""
    shape: str
    person: str
    group: str
    state: HoldingState
    granted: float
    active: float | None = None
    """when the kernel or the server was ready"""
    expires: float | None = None
    """end of the term; for an offered lease, end of the hold"""
    ends_at: float | None = None
    """end that notice was given of"""
    idle_since: float | None = None
    reclaimable: bool = True
    """False for a slice of a whole server whose owner has not opted in"""
    computing: bool = False
    course: str | None = None
    cause: Cause | None = None
    """of the notice that was given"""
    checkpoint: bool = False
    """whether its kernel can save itself, so that nothing is lost when it goes"""


@dataclass(frozen=True, slots=True)
class GpuState:
    """One GPU of a pool."""

    id: str
    drained: bool = False
    """nothing new is placed on it"""
    fixed: tuple[tuple[str, int], ...] | None = None
    """(shape, start) of the slices of a layout that we cannot change; None: slices are made on demand"""
    foreign: tuple[tuple[int, int], ...] = ()
    """(start, size) of what others have on it"""


@dataclass(frozen=True, slots=True)
class PoolState:
    """GPUs of one model behind one actuator."""

    name: str
    geometry: Geometry
    gpus: tuple[GpuState, ...] = ()
    places: bool = True
    """whether we choose the slot; else a site's own negotiator does and a grant is a submission"""
    shapes: frozenset[str] = frozenset()
    """what may be asked here"""


@dataclass(frozen=True, slots=True)
class GroupShare:
    """What a group may have; slots are eighths of a GPU."""

    guaranteed: float = 0.0
    maximum: float | None = None
    weight: float = 1.0
    longest: int = 8 * 3600
    """longest lease, renewals included, in seconds"""
    usage: float = 0.0
    """slot-seconds of the last weeks, decayed with a half-life of seven days"""


@dataclass(frozen=True, slots=True)
class Reserved:
    """Slices kept for a course from `start` to `end`; those who hold them count against it."""

    course: str
    pool: str
    shape: str
    count: int
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Terms:
    """Periods of the facility, in seconds."""

    hold: int = 900
    idle_after: int = 600
    quiet_after: int = 1800
    notice: int = 120
    youngest: int = 900
    saving: int = 60
    drain_before: int = 3600
    warned: bool = False
    """whether whoever is idle for `idle_after` is told then that the slice may go; the notice counts from that"""


@dataclass(frozen=True, slots=True)
class State:
    """Everything that a plan depends on."""

    pools: Mapping[str, PoolState]
    holdings: tuple[Holding, ...] = ()
    groups: Mapping[str, GroupShare] = field(default_factory=dict)
    reserved: tuple[Reserved, ...] = ()
    terms: Terms = Terms()
    early_release: float = 0.0
    """measured rate at which active leases end before their term, per lease and second"""


@dataclass(frozen=True, slots=True)
class Grant:
    """Give a wish this slot (None where the site chooses)."""

    wish: str
    want: Want
    slot: Slot | None


@dataclass(frozen=True, slots=True)
class Notice:
    """Tell the holder that the lease ends at `ends_at`."""

    lease: str
    ends_at: float
    cause: Cause


@dataclass(frozen=True, slots=True)
class Spare:
    """Take a notice of reclaiming back: nobody waits for it any more, or its holder computes again."""

    lease: str


@dataclass(frozen=True, slots=True)
class End:
    """The time of a lease has come: save, then end it."""

    lease: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class Lapse:
    """An offer that nobody took: the slot is free again, the request goes back with its age."""

    lease: str


@dataclass(frozen=True, slots=True)
class Extend:
    """Renew a lease that computes while nobody waits for it."""

    lease: str
    expires: float


Action = Grant | Notice | Spare | End | Lapse | Extend
