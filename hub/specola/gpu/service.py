"""The use cases of GPU sharing, and the only writer of its state.

`requesting` fills the queue, `holding` changes leases for those who hold them, `reconcile` plans and acts, `offers`
looks. All of them write first and act then, through one store, in one process; nothing that is written spans a wait,
so that requests at the same moment cannot pass a limit together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from specola.core.database import record
from specola.core.errors import NotFound
from specola.core.reconcile import Reconciler
from specola.gpu.api import (
    Advice,
    CourseNeed,
    CoursePlan,
    Drain,
    Lease,
    Leases,
    NewGrant,
    NewRequest,
    Offers,
    OneTimeGrant,
    Overview,
    Redeem,
    Redeemed,
    Renew,
    Report,
    Request,
    Requests,
    Saved,
    StartKernel,
)
from specola.gpu.following import Following, Servers
from specola.gpu.holding import Holding
from specola.gpu.meters import Meters
from specola.gpu.model import GpuSection, GroupGpu
from specola.gpu.offers import Looking
from specola.gpu.pools import GpuPool
from specola.gpu.reconcile import Reconcile
from specola.gpu.requesting import Requesting
from specola.gpu.situation import Situation
from specola.gpu.store import Drained, Store
from specola.gpu.telling import Events, Teller
from specola.gpu.views import seconds

SHOWN = 86400.0
"""for how long after their end requests and leases are shown to their person"""


class GpuService:
    """GPUs of people: see, ask, wait, hold, give back."""

    def __init__(
        self,
        engine: sa.Engine,
        events: Events,
        section: GpuSection,
        groups: Mapping[str, GroupGpu],
        *,
        pools: Mapping[str, GpuPool],
        servers: Servers,
        registry: CollectorRegistry | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.pools = pools
        self._store = Store(engine)
        self._at = Situation(self._store, pools, section, groups, clock)
        self._tell = Teller(self._at, events)
        meters = Meters(registry or CollectorRegistry(), pools.values())
        self._requesting = Requesting(self._at, self._tell)
        self._holding = Holding(self._at, self._tell, self.wake)
        self._looking = Looking(self._at, self._requesting, self._tell)
        following = Following(self._at, self._tell, self._holding, meters, servers)
        self._reconcile = Reconcile(self._at, self._tell, following, meters)

    # the loop

    @property
    def loop(self) -> Reconciler:
        """The loop that plans and acts."""
        return self._reconcile.loop

    def wake(self) -> None:
        """Something is to be done now."""
        self._reconcile.loop.wake()

    async def step(self) -> None:
        """One round of the loop."""
        await self._reconcile.step()

    async def settle(self) -> None:
        """Wait for every act that has begun."""
        await self._reconcile.settle()

    async def close(self) -> None:
        """End the loop and give up every act where it is; another service goes on from the rows."""
        await self._reconcile.loop.stop()
        await self._reconcile.stop()

    # asking

    async def offers(self, person: str, groups: Collection[str]) -> Offers:
        """What is free, as the person may use it."""
        return self._looking.offers(person, groups)

    async def advice(
        self,
        person: str,  # noqa: ARG002 - the signature of every question
        groups: Collection[str],
        gib: float,
        minutes: int,
        pool: str | None,
    ) -> Advice:
        """What a size in GiB means here."""
        return self._looking.advice(groups, gib, minutes, pool)

    async def ask(self, person: str, groups: Collection[str], wish: NewRequest, key: str | None = None) -> Request:
        """Take a request into the queue; TooMuch when it could never be served."""
        asked = self._requesting.ask(person, groups, wish, key)
        self.wake()
        return self._tell.request_of(asked)

    async def requests(self, person: str) -> Requests:
        """The person's requests, those of the last day among them."""
        found = self._store.asked_of(person, self._at.clock() - SHOWN)
        return Requests(items=tuple(map(self._tell.request_of, found)))

    async def request(self, person: str, identity: str) -> Request:
        """One of the person's requests."""
        return self._tell.request_of(self._requesting.mine(person, identity))

    async def cancel(self, person: str, identity: str) -> Request:
        """Wait no longer."""
        asked = self._requesting.cancel(person, identity)
        self.wake()
        return self._tell.request_of(asked)

    async def plan_course(self, plan: CoursePlan) -> CourseNeed:
        """What a course would need."""
        return self._looking.plan_course(plan)

    # holding; `person` None is the facility itself

    async def leases(self, person: str) -> Leases:
        """The person's leases, those of the last day among them."""
        found = self._store.held_of(person, self._at.clock() - SHOWN)
        return Leases(items=tuple(map(self._tell.lease_of, found)))

    async def lease(self, person: str | None, identity: str) -> Lease:
        """One lease."""
        return self._tell.lease_of(self._holding.mine(person, identity))

    async def start_kernel(self, person: str, identity: str, wish: StartKernel) -> Lease:
        """Start the kernel worker of a lease."""
        return self._tell.lease_of(await self._holding.start_kernel(person, identity, wish))

    async def confirm(self, person: str | None, identity: str, token: int) -> Lease:
        """The kernel or server is ready."""
        return self._tell.lease_of(self._holding.confirm(person, identity, token))

    async def renew(self, person: str, identity: str, wish: Renew) -> Lease:
        """More time."""
        return self._tell.lease_of(self._holding.renew(person, identity, wish))

    async def report(self, person: str, identity: str, wish: Report) -> Lease:
        """What the kernel does."""
        return self._tell.lease_of(self._holding.report(person, identity, wish))

    async def saved(self, person: str, identity: str, wish: Saved) -> Lease:
        """The kernel is saved."""
        return self._tell.lease_of(self._holding.saved(person, identity, wish))

    async def grant(self, person: str, identity: str, wish: NewGrant) -> OneTimeGrant:
        """A one-time grant for a server."""
        return OneTimeGrant(grant=self._holding.grant(person, identity, wish))

    async def redeem(self, wish: Redeem) -> Redeemed:
        """What a one-time grant stands for."""
        return await self._holding.redeem(wish)

    async def release(
        self, person: str | None, identity: str, token: int | None, *, by: str, server_gone: bool = False
    ) -> Lease:
        """Give a slice back; `server_gone`: the spawner says so, when a server has ended or not come up."""
        released = self._holding.release(person, identity, token, by=by, server_gone=server_gone)
        return self._tell.lease_of(released)

    # operating

    async def overview(self) -> Overview:
        """Everything, for operators."""
        return self._looking.overview()

    async def drain(self, pool: str, gpu: str, wish: Drain, by: str) -> None:
        """Place nothing new on a GPU, from now or a later moment on."""
        self._known(pool, gpu)
        start = None if wish.start is None else seconds(wish.start)
        self._store.drain(Drained(pool, gpu, wish.reason, start, by, self._at.clock()))
        self._drained(pool, gpu, by, "gpu.drain")

    async def undrain(self, pool: str, gpu: str, by: str) -> None:
        """Place on a GPU again; NotFound when it is not drained."""
        if not self._store.undrain(pool, gpu):
            raise NotFound("This GPU is not drained")
        self._drained(pool, gpu, by, "gpu.undrain")

    def _known(self, pool: str, gpu: str) -> None:
        if pool not in self.pools or gpu not in {card.id for card in self.pools[pool].cards}:
            raise NotFound("There is no such GPU")

    def _drained(self, pool: str, gpu: str, by: str, what: str) -> None:
        record(self._store.engine, by, what, f"{pool}/{gpu}")
        self._at.changed()
        self.wake()

    # people whose right has ended

    async def people(self) -> dict[str, int]:
        """Everybody who holds a slice or waits for one, and how many of both."""
        snapshot = self._at.now()
        found: dict[str, int] = {}
        for person in [*(held.person for held in snapshot.live), *(asked.person for asked in snapshot.queued)]:
            found[person] = found.get(person, 0) + 1
        return found

    async def end_all(self, person: str) -> list[str]:
        """Take everything of a person back, with nothing saved; the ids of what ended."""
        ended = self._holding.end_all(person)
        self.wake()
        return ended
