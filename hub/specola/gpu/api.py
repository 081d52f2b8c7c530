"""What the API says about GPUs; eighths of a GPU are called slots."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field, model_validator

from specola.core.section import Section

OnGrant = Literal["hold", "kernel", "notebook"]
RequestState = Literal["queued", "granted", "served", "cancelled", "failed"]
LeaseState = Literal["making", "offered", "starting", "active", "expiring", "saving", "ending", "ended"]
Outcome = Literal["released", "reclaimed", "expired", "drained", "lapsed", "failed", "cancelled"]
Signal = Literal["gpu", "process", "kernel", "person", "none"]
"""Which step of the ladder said that a lease is busy or idle."""


class Range(Section):
    """An honest wait in seconds; `high` is absent when nobody can say."""

    low: int
    high: int | None = None


class Part(Section):
    """A slice, or free room, on a drawn GPU."""

    start: int
    size: int
    shape: str | None = None
    state: Literal["free", "busy", "idle", "other"]
    mine: bool = False
    lease: str | None = Field(default=None, description="only of one's own")


class Gpu(Section):
    """One GPU of the map."""

    id: str
    index: int
    slots: int
    parts: tuple[Part, ...]
    drained: bool = False
    healthy: bool = True
    reason: str = ""


class ShapeOffer(Section):
    """A size that can be asked for."""

    shape: str
    profile: str = Field(description="NVIDIA's name, as in `3g.20gb`")
    gib: float = Field(description="memory that a program can use")
    slots: float = Field(description="eighths of a GPU")
    free: int = Field(description="how many could start now")
    total: int = Field(description="how many an empty pool holds")
    wait: Range | None = Field(default=None, description="for one more request asked now; absent: at once")


class PoolOffer(Section):
    """One pool, as the caller may use it."""

    name: str
    model: str
    actuator: str
    simulated: bool
    granularity: str
    controls_placement: bool
    available: bool
    reason: str = ""
    home: Literal["shared", "sync", "none"] = "shared"
    gpus: tuple[Gpu, ...] = ()
    shapes: tuple[ShapeOffer, ...] = ()
    queued: int = 0


class Allowance(Section):
    """What the caller's group lets them have."""

    group: str
    used_slots: float
    max_slots: float | None
    guaranteed_slots: float
    longest_minutes: int


class Offers(Section):
    """What is free, now."""

    at: datetime
    pools: tuple[PoolOffer, ...]
    allowances: tuple[Allowance, ...]
    hold: int = Field(default=900, description="seconds that a granted slice waits for its person")


class Choice(Section):
    """One way to get what was asked."""

    pool: str
    shape: str
    profile: str
    gib: float
    slots: float
    free: int
    wait: Range | None = None
    text: str = Field(description="one line for people")


class Advice(Section):
    """What a size in GiB means here."""

    choice: Choice | None
    alternatives: tuple[Choice, ...] = ()
    text: str


class NewRequest(Section):
    """A wish: a size in GiB, or a shape; acceptable others; how long; what to do when it comes."""

    # sizes and durations that cannot be had are refused by the service, which can say what could
    gib: float | None = Field(default=None, allow_inf_nan=False, description="size in GiB")
    shape: str | None = Field(default=None, max_length=32)
    pool: str | None = Field(default=None, max_length=64)
    alternatives: tuple[str, ...] = Field(default=(), max_length=8, description="shapes that would do as well")
    minutes: int = Field(default=60, description="how long, from the moment that it is ready")
    on_grant: OnGrant = "hold"
    notebook: str | None = Field(default=None, max_length=1024, description="path in the home, for `notebook`")
    group: str | None = Field(default=None, max_length=255, description="group that it counts for")
    server: bool = Field(default=False, description="for a whole server")
    reclaimable: bool = Field(
        default=False, description="a whole server's slice may be reclaimed when idle; a kernel's always may"
    )

    @model_validator(mode="after")
    def _one_size(self) -> NewRequest:
        if (self.gib is None) == (self.shape is None):
            raise ValueError("give either gib or shape")
        if (self.on_grant == "notebook") != (self.notebook is not None):
            raise ValueError("notebook is given with on_grant notebook, and only then")
        return self


class Request(Section):
    """A wish in the queue, or what became of it."""

    id: str
    state: RequestState
    group: str
    wants: tuple[Choice, ...]
    gib: float | None
    minutes: int
    on_grant: OnGrant
    notebook: str | None
    server: bool
    created: datetime
    position: int | None = Field(default=None, description="1 is next")
    wait: Range | None = None
    reason: str = Field(description="why it waits, or why it ended, in a sentence")
    lease: str | None = None


class Requests(Section):
    """The caller's requests."""

    items: tuple[Request, ...]


class Moment(Section):
    """One point of the sparkline."""

    at: datetime
    engine: float | None
    memory: int | None


class NotSaved(Section):
    """A variable that could not be saved."""

    name: str = Field(max_length=256)
    why: str = Field(max_length=512)


class SavedNames(Section):
    """What of a kernel was saved, and what could not be."""

    at: datetime
    names: tuple[str, ...]
    failed: tuple[NotSaved, ...]
    hooks: int
    size: int


class Lease(Section):
    """A slice on lease."""

    id: str
    request: str
    state: LeaseState
    outcome: Outcome | None = None
    pool: str
    model: str
    simulated: bool
    shape: str
    profile: str
    gib: float
    slots: float
    gpu: str | None
    start: int | None
    device: str | None = Field(description="UUID as CUDA knows it, once the slice exists")
    group: str
    token: int = Field(description="fencing token: what changes the lease must name the newest")
    on_grant: OnGrant
    notebook: str | None
    server: str | None = Field(default=None, description="the server that holds it; absent: a kernel does")
    kernel: str | None = None
    reason: str = Field(default="", description="the site's reason while it starts, or why it ended")
    granted: datetime
    active: datetime | None
    expires: datetime | None
    ends_at: datetime | None
    cause: str | None
    longest: datetime | None = Field(description="renewals end here")
    idle_since: datetime | None
    signal: Signal
    checkpoint: bool = Field(description="its kernel has registered one")
    reclaimable: bool
    saved: SavedNames | None = None
    activity: tuple[Moment, ...] = ()


class Leases(Section):
    """The caller's leases; the ended of the last day are among them."""

    items: tuple[Lease, ...]


class Token(Section):
    """The fencing token of a lease."""

    token: int


class NewGrant(Section):
    """Take a lease into a server."""

    token: int
    server: str = Field(default="", max_length=64)


class OneTimeGrant(Section):
    """What `user_options.gpu` of the server must say; good once, for a minute."""

    grant: str


class Redeem(Section):
    """The spawner asks for what a one-time grant stands for."""

    grant: str = Field(max_length=256)
    person: str = Field(max_length=255)
    server: str = Field(max_length=64)


class Redeemed(Section):
    """The slice of a server that starts."""

    lease: str
    token: int
    environment: dict[str, str]
    text: str = Field(default="", description="the slice in words, shown while the server starts")


class StartKernel(Section):
    """Where the kernel worker has to dial, and with what."""

    token: int
    kernel_id: str = Field(pattern=r"^[0-9a-f-]{8,64}$")
    relay_url: str = Field(pattern=r"^wss?://", max_length=2048)
    secret: str = Field(min_length=20, max_length=256, repr=False)
    kernel_name: str = Field(default="python3", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    directory: str = Field(default="", max_length=4096, description="where the kernel starts; empty: the home")


class Renew(Section):
    """More time."""

    token: int
    minutes: int


class Report(Section):
    """What the kernel of a lease does."""

    token: int
    kernel: Literal["busy", "idle"]
    since: float
    checkpoint: bool = False


class Saved(Section):
    """The kernel has been saved: the lease may end now."""

    token: int
    names: tuple[str, ...] = Field(default=(), max_length=1000)
    failed: tuple[NotSaved, ...] = Field(default=(), max_length=1000)
    hooks: int = Field(default=0, ge=0)
    size: int = Field(default=0, ge=0)


class CoursePlan(Section):
    """A course to plan for: nothing is reserved by asking."""

    pool: str = Field(max_length=64)
    shape: str = Field(max_length=32)
    seats: int = Field(ge=1, le=10000)
    show_up: float = Field(default=0.85, gt=0, le=1, description="share of those who come")
    start: datetime | None = None
    end: datetime | None = None


class CourseNeed(Section):
    """What a course needs."""

    attendance: int = Field(description="not more come, with a probability of 99 %")
    per_gpu: int
    gpus: int
    enough: bool
    conflicts: tuple[str, ...] = ()
    text: str


class HeldBy(Section):
    """One row of the operator's view."""

    lease: str
    person: str
    group: str
    pool: str
    gpu: str | None
    start: int | None
    shape: str
    state: LeaseState
    since: datetime
    expires: datetime | None
    idle_since: datetime | None
    signal: Signal


class Fragmentation(Section):
    """Of one shape in one pool: how many fit now, and how many would if the free room lay together."""

    pool: str
    shape: str
    now: int
    joined: int


class Overview(Section):
    """Who holds what, who waits, how scattered the free room is."""

    at: datetime
    held: tuple[HeldBy, ...]
    queued: tuple[Request, ...]
    fragmentation: tuple[Fragmentation, ...]
    gpus: tuple[PoolOffer, ...]


class Drain(Section):
    """Nothing new is placed on the GPU; with `until`, for as long."""

    reason: str = Field(default="", max_length=256)
    start: datetime | None = None
