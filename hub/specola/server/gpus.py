"""Which actuator and which runner go into which pool of GPUs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from specola.client.hub import Hub
from specola.client.launcher import Launcher
from specola.core.events import Bus
from specola.facility.runtime import Runtime
from specola.gpu.adapters.condor import CondorRunner
from specola.gpu.adapters.local_runner import LauncherRunner
from specola.gpu.adapters.nvml import NvmlActuator
from specola.gpu.adapters.profiles import models
from specola.gpu.adapters.simulated import SimulatedActuator
from specola.gpu.adapters.slurm import SlurmRunner
from specola.gpu.model import ActuatorError, CondorPool, NvmlPool, Pool, SimulatedPool, SlurmPool
from specola.gpu.pools import GpuPool, by_name
from specola.gpu.service import GpuService

PATIENCE = 60.0
KUBERNETES = "Its slices are Kubernetes', and this facility runs on one machine."


class HubServers:
    """Everybody's notebook servers, asked of the hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def present(self) -> Mapping[tuple[str, str], bool]:
        """(person, server) of all that run, start or stop, and whether each is ready."""
        users = await self._hub.active_users()
        return {
            (user.name, name): server.ready and server.pending is None
            for user in users
            for name, server in user.servers.items()
        }

    async def stop(self, person: str, server: str) -> None:
        """Ask for a server's end."""
        await self._hub.stop(person, server)


async def free_slices(runtime: Runtime) -> list[str]:
    """Destroy the slices that were made on this machine's GPUs, once nothing runs on them; why any is left, in words.

    Their leases are still written down: the next start makes those anew that were on offer, and ends the others.
    """
    left = []
    for name, section in runtime.facility.gpu.pools.items():
        if not isinstance(section, NvmlPool) or not section.create:
            continue
        actuator = NvmlActuator(name, section, models()[section.model], runtime.layout.state / "gpu" / name)
        try:
            async with asyncio.timeout(PATIENCE):
                for card in await actuator.cards():
                    for one in card.instances:
                        if one.tag is not None:
                            await actuator.destroy(one)
        except (ActuatorError, TimeoutError) as error:
            left.append(f"{name}: {error or 'the GPUs do not answer'}")
    return left


def gpu_service(runtime: Runtime, engine: sa.Engine, bus: Bus, hub: Hub, registry: CollectorRegistry) -> GpuService:
    """The GPUs of the facility file."""
    facility = runtime.facility
    pools = by_name(_pool(runtime, name, section) for name, section in facility.gpu.pools.items())
    groups = {name: group.gpu for name, group in facility.groups.items()}
    return GpuService(engine, bus, facility.gpu, groups, pools=pools, servers=HubServers(hub), registry=registry)


def _pool(runtime: Runtime, name: str, section: Pool) -> GpuPool:
    """One pool; what cannot be had on this machine is closed, with the reason."""
    model, directory = models()[section.model], runtime.layout.state / "gpu" / name
    launcher, facility = Launcher(runtime.layout.launcher_socket), runtime.facility
    if isinstance(section, SimulatedPool | NvmlPool):
        here = LauncherRunner(
            launcher,
            runtime.addresses.env / "bin" / "python",
            memory_gib=facility.servers.memory_gib,
            cores=facility.servers.cores,
        )
        try:
            if isinstance(section, NvmlPool):
                return GpuPool(name, section, model, NvmlActuator(name, section, model, directory), here)
            actuator = SimulatedActuator(name, section, model, directory, facility=runtime.layout.id)
        except ActuatorError as error:
            return GpuPool(name, section, model, closed=f"It cannot be used: {error}.")
        return GpuPool(name, section, model, actuator, here)
    notes = runtime.layout.state / "gpu" / "sites"
    if isinstance(section, CondorPool):
        condor = CondorRunner(launcher, name, section, model=model, facility=runtime.layout.id, notes=notes)
        return GpuPool(name, section, model, runner=condor, home=section.home)
    if isinstance(section, SlurmPool):
        slurm = SlurmRunner(launcher, name, section, model=model, facility=runtime.layout.id, notes=notes)
        return GpuPool(name, section, model, runner=slurm, home=section.home)
    return GpuPool(name, section, model, closed=KUBERNETES)
