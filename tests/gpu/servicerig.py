"""The whole GPU service in this process: a real database, real simulated cards, a clock that tests move."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from specola.core.database import open_database
from specola.core.events import Bus
from specola.gpu.adapters.profiles import models
from specola.gpu.adapters.simulated import SimulatedActuator
from specola.gpu.api import Lease, NewRequest, Request, StartKernel
from specola.gpu.geometry import GpuModel
from specola.gpu.model import Actuator, Gone, GpuSection, GroupGpu, Pool, Running, SimulatedPool, Waiting, Work
from specola.gpu.pools import GpuPool, by_name
from specola.gpu.service import GpuService
from specola.gpu.store import Store

GROUPS = {"physics": GroupGpu(), "ml": GroupGpu(max_slots=4, longest_lease=7200)}
POOLS = {"a100": {"actuator": "simulated", "model": "A100-40GB", "cards": 1}}
SECRET = "secret-of-a-kernel-that-nobody-may-see"
_numbers = itertools.count()


class Clock:
    """Seconds since 1970, moved by hand."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FakeRunner:
    """Kernel workers as entries; what it says can be set by lease."""

    site = "this machine"

    def __init__(self) -> None:
        self.work: dict[str, Work] = {}
        self.says: dict[str, Waiting | Running | Gone] = {}
        self.started: list[str] = []
        self.fails: Exception | None = None

    async def start(self, work: Work) -> None:
        await asyncio.sleep(0)
        if self.fails is not None:
            raise self.fails
        self.started.append(work.lease)
        self.work[work.lease] = work

    async def poll(self, lease: str) -> Waiting | Running | Gone:
        await asyncio.sleep(0)
        if lease in self.says:
            return self.says[lease]
        return Running("here") if lease in self.work else Gone()

    async def stop(self, lease: str) -> None:
        await asyncio.sleep(0)
        self.work.pop(lease, None)

    async def leases(self) -> frozenset[str]:
        await asyncio.sleep(0)
        return frozenset(self.work)


@dataclass
class FakeServers:
    """The hub's servers."""

    there: dict[tuple[str, str], bool] = field(default_factory=dict)
    stopped: list[tuple[str, str]] = field(default_factory=list)

    async def present(self) -> Mapping[tuple[str, str], bool]:
        return dict(self.there)

    async def stop(self, person: str, server: str) -> None:
        self.stopped.append((person, server))
        self.there.pop((person, server), None)


class Rig:
    """A service over a directory; `again` is another one over the same database and the same cards."""

    def __init__(
        self,
        place: Path,
        *,
        pools: Mapping[str, Any] = POOLS,
        groups: Mapping[str, GroupGpu] = GROUPS,
        clock: Clock | None = None,
        runner: FakeRunner | None = None,
        servers: FakeServers | None = None,
        engine: sa.Engine | None = None,
        **section: Any,
    ) -> None:
        self.place = place
        self.given: dict[str, Any] = getattr(self, "given", {}) | {"pools": pools, "groups": groups, **section}
        self.section = GpuSection.model_validate({"pools": pools, **section})
        self.clock = clock or Clock()
        self.runner = runner or FakeRunner()
        self.servers = servers or FakeServers()
        self.bus = Bus()
        self.engine = engine or open_database(place / "specola.sqlite")
        self.pools = by_name(self._pool(name, section) for name, section in self.section.pools.items())
        self.service = GpuService(
            self.engine, self.bus, self.section, groups, pools=self.pools, servers=self.servers, clock=self.clock
        )
        self.store = Store(self.engine)

    def _pool(self, name: str, section: Pool) -> GpuPool:
        model = models()[section.model]
        if isinstance(section, SimulatedPool):
            actuator = self.actuator(name, section, model)
            return GpuPool(name, section, model, actuator, self.runner)
        if section.actuator in {"condor", "slurm"}:
            return GpuPool(name, section, model, runner=self.runner, home=section.home)  # type: ignore[union-attr]
        return GpuPool(name, section, model, closed="It is Kubernetes'.")

    def actuator(self, name: str, section: SimulatedPool, model: GpuModel) -> Actuator:
        return SimulatedActuator(name, section, model, self.place / "gpu" / name)

    @property
    def pool(self) -> GpuPool:
        return next(iter(self.pools.values()))

    async def again(self) -> Rig:
        """As after a kill: whatever was under way is dropped where it is."""
        await self.service.close()
        self.engine.dispose()
        more = {"clock": self.clock, "runner": self.runner, "servers": self.servers}
        return Rig(self.place, **self.given, **more)

    async def close(self) -> None:
        await self.service.close()
        self.engine.dispose()

    # what people do

    async def ask(self, person: str = "anna", groups: tuple[str, ...] = ("physics",), **wish: Any) -> Request:
        wish = wish if {"gib", "shape"} & wish.keys() else {"shape": "1g", **wish}
        return await self.service.ask(person, groups, NewRequest.model_validate(wish), None)

    async def pass_by(self, seconds: float = 0.0, steps: int = 3) -> None:
        """Time passes, and the loop goes round until nothing is left to do."""
        self.clock.now += seconds
        for _ in range(steps):
            await self.service.step()
            await self.service.settle()
            self.clock.now += 0.01

    async def lease(self, person: str = "anna", request: Request | None = None) -> Lease:
        """The person's newest lease."""
        items = (await self.service.leases(person)).items
        if request is not None:
            items = tuple(one for one in items if one.request == request.id)
        return items[-1]

    async def offered(self, person: str = "anna", groups: tuple[str, ...] = ("physics",), **wish: Any) -> Lease:
        request = await self.ask(person, groups, **wish)
        await self.pass_by()
        lease = await self.lease(person, request)
        assert lease.state == "offered", lease
        return lease

    async def active(self, person: str = "anna", groups: tuple[str, ...] = ("physics",), **wish: Any) -> Lease:
        """A lease whose kernel runs."""
        lease = await self.offered(person, groups, **wish)
        await self.service.start_kernel(person, lease.id, kernel(lease))
        return await self.service.confirm(person, lease.id, lease.token)

    async def tags(self, pool: str | None = None) -> dict[str, tuple[str, int, int]]:
        """Slices that exist: tag → (gpu, start, size)."""
        chosen = self.pool if pool is None else self.pools[pool]
        assert chosen.actuator is not None
        return {
            str(one.tag): (one.slot.gpu, one.slot.start, one.slot.size)
            for card in await chosen.actuator.cards()
            for one in card.instances
            if one.tag is not None
        }

    def heard(self, person: str | None, kind: str) -> list[dict[str, Any]]:
        """Events so far."""
        return [event.data for event in self.bus._ring if event.person == person and event.type == kind]


def kernel(lease: Lease, identity: str | None = None) -> StartKernel:
    return StartKernel(
        token=lease.token,
        kernel_id=identity or f"{next(_numbers):08x}-0000",
        relay_url="ws://127.0.0.1:8000/user/anna/specola/gpu/relay/k1",
        secret=SECRET,
    )
