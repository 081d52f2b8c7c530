"""Requests, leases and records as they are kept: the only writer of their tables.

Every change names the states that it starts from and happens only there (`move`), so that whoever comes too late
changes nothing. What belongs together is written in one transaction. No method waits for anything but the disk.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, cast

import sqlalchemy as sa

from specola.core.database import meta
from specola.core.errors import SpecolaError
from specola.gpu.api import LeaseState, OnGrant, Outcome, RequestState
from specola.gpu.state import Cause, HoldingState, Slot, Want
from specola.gpu.tables import drains, leases, records, requests

TOKEN = "gpu.token"  # noqa: S105 - the name of a counter
LIVE: tuple[HoldingState, ...] = ("making", "offered", "starting", "active", "expiring", "saving", "ending")
USABLE: tuple[HoldingState, ...] = ("offered", "starting", "active", "expiring", "saving")


@dataclass(frozen=True)
class Asked:
    """A request."""

    id: str
    person: str
    group: str
    wants: tuple[Want, ...]
    gib: float | None
    seconds: int
    on_grant: OnGrant
    notebook: str | None
    server: bool
    reclaimable: bool
    key: str | None
    created: float
    course: str | None = None
    state: RequestState = "queued"
    reason: str = ""
    lease: str | None = None
    returns: int = 0
    """how often an offer to it lapsed"""
    ended: float | None = None


@dataclass(frozen=True)
class Held:
    """A lease; what its columns mean that have no namesake in `specola.gpu.api.Lease` is said here."""

    id: str
    request: str
    person: str
    group: str
    pool: str
    shape: str
    slots: float
    simulated: bool
    seconds: int
    """the term that was asked for"""
    on_grant: OnGrant
    notebook: str | None
    for_server: bool
    """whether a whole server wants it"""
    reclaimable: bool
    granted: float
    gpu: str | None = None
    start: int | None = None
    size: int | None = None
    course: str | None = None
    device: str | None = None
    state: LeaseState = "making"
    outcome: Outcome | None = None
    reason: str = ""
    token: int = 0
    server: str | None = None
    grant_hash: str | None = None
    grant_server: str | None = None
    grant_until: float | None = None
    kernel: str | None = None
    starting: float | None = None
    """when a kernel or server last began to start"""
    begun: float | None = None
    """when the runner had taken the work"""
    failures: int = 0
    active: float | None = None
    expires: float | None = None
    longest: float | None = None
    ends_at: float | None = None
    cause: Cause | None = None
    deadline: float | None = None
    """when saving is given up"""
    kernel_busy: bool | None = None
    kernel_since: float | None = None
    reported: float | None = None
    person_at: float | None = None
    """when its person last said that they need it"""
    checkpoint: bool = False
    seen: Mapping[str, Any] | None = None
    """what is kept of its measurements (`specola.gpu.idle.Seen`)"""
    used: float = 0.0
    """seconds that it was busy"""
    saved: Mapping[str, Any] | None = None
    ended: float | None = None

    @property
    def slot(self) -> Slot | None:
        """Where it lies; None where the site chooses."""
        if self.gpu is None or self.start is None or self.size is None:
            return None
        return Slot(self.gpu, self.start, self.size)


@dataclass(frozen=True)
class Record:
    """What a lease came to; `fraction` is its part of a GPU, `early` whether it ended before its term."""

    lease: str
    person: str
    group: str
    course: str | None
    pool: str
    model: str
    shape: str
    slots: float
    fraction: float
    simulated: bool
    server: bool
    asked: float
    granted: float
    active: float | None
    ended: float
    allocated_seconds: float
    used_seconds: float
    outcome: Outcome
    early: bool


@dataclass(frozen=True)
class Drained:
    """A GPU on which nothing new is placed, from `start` on (None: at once)."""

    pool: str
    gpu: str
    reason: str
    start: float | None
    by: str
    at: float


_HELD = tuple(field.name for field in fields(Held))
_ASKED = tuple(field.name for field in fields(Asked))


class Store:
    """Reads and writes; the engine's database is that of the service."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    # requests

    def add(self, asked: Asked) -> None:
        """Keep a new request."""
        values = asdict(asked) | {"wants": [[want.pool, want.shape] for want in asked.wants]}
        with self.engine.begin() as connection:
            connection.execute(requests.insert().values(values))

    def queued(self) -> list[Asked]:
        """Everything that waits, the oldest first."""
        return self._asked(requests.c.state == "queued")

    def asked(self, identity: str) -> Asked | None:
        """One request."""
        return next(iter(self._asked(requests.c.id == identity)), None)

    def asked_of(self, person: str, since: float) -> list[Asked]:
        """A person's requests that are open or ended after `since`."""
        return self._asked(requests.c.person == person, sa.or_(requests.c.ended.is_(None), requests.c.ended > since))

    def with_key(self, person: str, key: str, since: float) -> Asked | None:
        """What a person asked with an idempotency key."""
        found = self._asked(requests.c.person == person, requests.c.key == key, requests.c.created > since)
        return next(iter(found), None)

    def _asked(self, *where: sa.ColumnElement[bool]) -> list[Asked]:
        query = requests.select().where(*where).order_by(requests.c.created, requests.c.id)
        with self.engine.connect() as connection:
            return [_as_asked(row) for row in connection.execute(query).mappings()]

    def change(self, identity: str, states: Collection[str], **values: Any) -> bool:
        """Change a request that is in one of these states; whether it was."""
        with self.engine.begin() as connection:
            return _change(connection, identity, states, values)

    # leases

    def live(self) -> list[Held]:
        """Every lease that has not ended, the oldest first."""
        return self._held(leases.c.state != "ended")

    def held(self, identity: str) -> Held | None:
        """One lease."""
        return next(iter(self._held(leases.c.id == identity)), None)

    def held_of(self, person: str, since: float) -> list[Held]:
        """A person's leases that live or ended after `since`."""
        return self._held(leases.c.person == person, sa.or_(leases.c.ended.is_(None), leases.c.ended > since))

    def granted_by(self, digest: str) -> Held | None:
        """The lease that a one-time grant stands for."""
        return next(iter(self._held(leases.c.grant_hash == digest)), None)

    def _held(self, *where: sa.ColumnElement[bool]) -> list[Held]:
        query = leases.select().where(*where).order_by(leases.c.granted, leases.c.token)
        with self.engine.connect() as connection:
            return [_as_held(row) for row in connection.execute(query).mappings()]

    def grant(self, held: Held) -> Held | None:
        """Keep a new lease for its request, with a new token; None when the request does not wait any more."""
        with self.engine.begin() as connection:
            _refuse_overlap(connection, held)
            if not _change(connection, held.request, ("queued",), {"state": "granted", "lease": held.id, "reason": ""}):
                return None
            held = replace(held, token=_next_token(connection))
            connection.execute(leases.insert().values(asdict(held)))
        return held

    def move(
        self,
        identity: str,
        states: Collection[str],
        *,
        request: Mapping[str, Any] | None = None,
        new_token: bool = False,
        **values: Any,
    ) -> bool:
        """Change a lease that is in one of these states, and its open request with it; whether it was."""
        with self.engine.begin() as connection:
            if new_token:
                values["token"] = _next_token(connection)
            same = sa.and_(leases.c.id == identity, leases.c.state.in_(states))
            if connection.execute(leases.update().where(same).values(values)).rowcount == 0:
                return False
            if request is not None:
                _change_of_lease(connection, identity, ("granted", "served"), request)
        return True

    def end(self, record: Record) -> bool:
        """The last step of a lease: ended, with its record."""
        with self.engine.begin() as connection:
            same = sa.and_(leases.c.id == record.lease, leases.c.state == "ending")
            values = {"state": "ended", "ended": record.ended, "outcome": record.outcome, "grant_hash": None}
            if connection.execute(leases.update().where(same).values(values)).rowcount == 0:
                return False
            connection.execute(records.insert().values(asdict(record)))
        return True

    # records, drains

    def records(self, since: float) -> list[Record]:
        """Records of the leases that ended after `since`."""
        with self.engine.connect() as connection:
            rows = connection.execute(records.select().where(records.c.ended > since)).mappings()
            return [Record(**row) for row in rows]

    def drains(self) -> list[Drained]:
        """Every drain, also those that begin later."""
        with self.engine.connect() as connection:
            return [Drained(**row) for row in connection.execute(drains.select()).mappings()]

    def drain(self, drained: Drained) -> None:
        """Drain a GPU; one that is drained gets the new reason."""
        with self.engine.begin() as connection:
            connection.execute(_drain_of(drained.pool, drained.gpu))
            connection.execute(drains.insert().values(asdict(drained)))

    def undrain(self, pool: str, gpu: str) -> bool:
        """Whether there was a drain to end."""
        with self.engine.begin() as connection:
            return connection.execute(_drain_of(pool, gpu)).rowcount > 0

    def forget(self, before: float) -> None:
        """Drop requests and leases that ended before; their records stay."""
        with self.engine.begin() as connection:
            connection.execute(leases.delete().where(leases.c.ended < before))
            connection.execute(requests.delete().where(requests.c.ended < before))


def _change(connection: sa.Connection, identity: str, states: Collection[str], values: Mapping[str, Any]) -> bool:
    same = sa.and_(requests.c.id == identity, requests.c.state.in_(states))
    return connection.execute(requests.update().where(same).values(dict(values))).rowcount > 0


def _change_of_lease(connection: sa.Connection, lease: str, states: Collection[str], values: Mapping[str, Any]) -> None:
    """Change the request that has this lease; one that waits again may have another by now."""
    same = sa.and_(requests.c.lease == lease, requests.c.state.in_(states))
    connection.execute(requests.update().where(same).values(dict(values)))


def _next_token(connection: sa.Connection) -> int:
    """Greater than every token before, also over restarts."""
    last = connection.scalar(sa.select(meta.c.value).where(meta.c.key == TOKEN))
    following = int(last or 0) + 1
    connection.execute(meta.delete().where(meta.c.key == TOKEN))
    connection.execute(meta.insert().values(key=TOKEN, value=str(following)))
    return following


def _refuse_overlap(connection: sa.Connection, held: Held) -> None:
    """The last word on what nobody may ever see: one slot held twice."""
    slot = held.slot
    if slot is None:
        return
    column = leases.c
    meets = sa.and_(column.start < slot.start + slot.size, slot.start < column.start + column.size)
    same = sa.and_(column.pool == held.pool, column.gpu == slot.gpu, column.state != "ended", meets)
    if connection.scalar(sa.select(sa.func.count()).where(same)):
        raise SpecolaError(f"slots {slot.start} to {slot.start + slot.size - 1} of {slot.gpu} are held already")


def _drain_of(pool: str, gpu: str) -> sa.Delete:
    return drains.delete().where(drains.c.pool == pool, drains.c.gpu == gpu)


def _as_asked(row: sa.RowMapping) -> Asked:
    values = {name: row[name] for name in _ASKED}
    return Asked(**{**values, "wants": tuple(Want(pool, shape) for pool, shape in row["wants"])})


def _as_held(row: sa.RowMapping) -> Held:
    return Held(**cast("dict[str, Any]", {name: row[name] for name in _HELD}))
