"""Rows as the API shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from specola.core.errors import BadInput
from specola.gpu.api import Choice, HeldBy, Lease, Moment, Range, Request, SavedNames
from specola.gpu.geometry import WHOLE, GpuModel
from specola.gpu.idle import Verdict
from specola.gpu.model import Sample
from specola.gpu.pools import GpuPool
from specola.gpu.situation import NOBODY, Snapshot
from specola.gpu.state import Want
from specola.gpu.store import Asked, Held


def when(at: float | None) -> datetime | None:
    """A time of the database for the wire."""
    return None if at is None else moment(at)


def moment(at: float) -> datetime:
    """The same for one that is there."""
    return datetime.fromtimestamp(at, UTC)


def seconds(at: datetime) -> float:
    """A time of the wire for the database; BadInput for one that no clock of this machine shows."""
    try:
        return at.timestamp()
    except (ValueError, OverflowError):
        raise BadInput("There is no such time") from None


def profile_name(model: GpuModel, shape: str) -> str:
    """NVIDIA's name of a shape; for a whole GPU, its model's."""
    return model.profiles[shape].name if shape in model.profiles else model.name


def gib_of(model: GpuModel, shape: str) -> float:
    """Memory that a program can use."""
    return model.profiles[shape].gib if shape in model.profiles else model.gib


def waiting(found: tuple[int, int | None] | None) -> Range | None:
    """A range on the wire; None stays None."""
    return None if found is None else Range(low=found[0], high=found[1])


def words(model: GpuModel, shape: str) -> str:
    """A size in one line: `3g.20gb, 19.5 GiB: half of an A100-40GB`."""
    size, slots = model.geometry.size(shape), model.geometry.slots
    gib = f"{gib_of(model, shape):g} GiB"
    if shape == WHOLE or size == slots:
        return f"{profile_name(model, shape)}, {gib}: a whole {model.name}"
    part = {2: "half", 4: "a quarter", 8: "an eighth"}.get(round(slots / size) if slots % size == 0 else 0)
    return f"{profile_name(model, shape)}, {gib}: {part or f'{size}/{slots}'} of one {model.name}"


def choice(pool: GpuPool, want: Want, *, free: int = 0, wait: Range | None = None) -> Choice:
    """One way to get what was asked."""
    return Choice(
        pool=want.pool,
        shape=want.shape,
        profile=profile_name(pool.model, want.shape),
        gib=gib_of(pool.model, want.shape),
        slots=pool.model.geometry.eighths(want.shape),
        free=free,
        wait=wait,
        text=words(pool.model, want.shape),
    )


def request_view(asked: Asked, pools: Mapping[str, GpuPool], snapshot: Snapshot) -> Request:
    """A request with its place in the queue, as of a moment."""
    position, reason, soonest = None, asked.reason, None
    if asked.state == "queued":
        position, why = snapshot.explained.get(asked.id, (None, ""))
        reason = f"{asked.reason} {why}".strip()
        soonest = _soonest(snapshot.wait(want, asked.id) for want in asked.wants)
    return Request(
        id=asked.id,
        state=asked.state,
        group=asked.group,
        wants=tuple(choice(pools[want.pool], want) for want in asked.wants if _known(pools, want)),
        gib=asked.gib,
        minutes=round(asked.seconds / 60),
        on_grant=asked.on_grant,
        notebook=asked.notebook,
        server=asked.server,
        created=moment(asked.created),
        position=position,
        wait=soonest,
        reason=reason,
        lease=asked.lease,
    )


def _known(pools: Mapping[str, GpuPool], want: Want) -> bool:
    """Whether the facility file still has what was once asked for."""
    return want.pool in pools and (want.shape == WHOLE or want.shape in pools[want.pool].model.profiles)


def _soonest(waits: Iterable[tuple[int, int | None] | None]) -> Range | None:
    """The best of several ranges; what could be had at once is granted within a second."""
    found = [(0, 0) if one is None else one for one in waits]
    if not found:
        return None
    highs = [high for _, high in found if high is not None]
    return Range(low=min(low for low, _ in found), high=min(highs) if highs else None)


def lease_view(held: Held, pool: GpuPool | None, verdict: Verdict = NOBODY, samples: Iterable[Sample] = ()) -> Lease:
    """A lease as its person sees it."""
    known = pool is not None and (held.shape == WHOLE or held.shape in pool.model.profiles)
    model = pool.model if pool is not None and known else None
    return Lease(
        id=held.id,
        request=held.request,
        state=held.state,
        outcome=held.outcome if held.state == "ended" else None,
        pool=held.pool,
        model="" if model is None else model.name,
        simulated=held.simulated,
        shape=held.shape,
        profile=held.shape if model is None else profile_name(model, held.shape),
        gib=0.0 if model is None else gib_of(model, held.shape),
        slots=held.slots,
        gpu=held.gpu,
        start=held.start,
        device=held.device,
        group=held.group,
        token=held.token,
        on_grant=held.on_grant,
        notebook=held.notebook,
        server=held.server if held.for_server else None,
        kernel=held.kernel,
        reason=held.reason,
        granted=moment(held.granted),
        active=when(held.active),
        expires=when(held.expires),
        ends_at=when(held.deadline if held.state == "saving" else held.ends_at),
        cause=held.cause,
        longest=when(held.longest),
        idle_since=when(verdict.idle_since),
        signal=verdict.signal,
        checkpoint=held.checkpoint,
        reclaimable=held.reclaimable,
        saved=None if held.saved is None else SavedNames.model_validate(held.saved),
        activity=tuple(Moment(at=moment(one.at), engine=one.engine, memory=one.memory) for one in samples),
    )


def held_by(held: Held, verdict: Verdict) -> HeldBy:
    """A lease as an operator sees it."""
    return HeldBy(
        lease=held.id,
        person=held.person,
        group=held.group,
        pool=held.pool,
        gpu=held.gpu,
        start=held.start,
        shape=held.shape,
        state=held.state,
        since=moment(held.granted),
        expires=when(held.expires),
        idle_since=when(verdict.idle_since),
        signal=verdict.signal,
    )
