"""The use cases of scale-out.

The gateway is the only writer of clusters and decides about budgets; this service asks it for people,
and tells them what changed. It keeps nothing that a restart would lose.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from specola.core.errors import Conflict, NotFound
from specola.core.reconcile import Reconciler
from specola.scaleout.api import Clusters, NewCluster, Scale, Site, Sites
from specola.scaleout.budget import allowance, remaining
from specola.scaleout.cluster import Cluster, OwnedCluster
from specola.scaleout.model import GroupScaleout, ScaleoutSection
from specola.scaleout.placement import DEFAULT_ENVIRONMENT, may_use, place

EVENT = "scaleout.cluster"
PERIOD = 1.0
LONGEST_PAUSE = 5.0


class Gateway(Protocol):
    """What is asked of the gateway."""

    async def clusters(self) -> list[OwnedCluster]:
        """Everybody's clusters."""

    async def create(self, person: str, groups: Collection[str], options: dict[str, Any]) -> str:
        """A new cluster; its name."""

    async def scale(self, person: str, groups: Collection[str], name: str, workers: int) -> None:
        """A fixed number of workers."""

    async def adapt(self, person: str, groups: Collection[str], name: str, minimum: int, maximum: int) -> None:
        """A range of workers."""

    async def stop(self, person: str, groups: Collection[str], name: str) -> None:
        """End one cluster."""

    async def stop_all(self, person: str) -> list[str]:
        """End every cluster of a person."""


class Events(Protocol):
    """Where people hear of changes."""

    def publish(self, person: str | None, type: str, data: dict[str, Any]) -> object:  # noqa: A002 - the wire's word
        """Tell one person."""


@dataclass(frozen=True)
class Load:
    """What one person has running."""

    clusters: int = 0
    workers: int = 0
    """at work or on their way"""


class ScaleoutService:
    """Clusters of people: see, make, scale, stop; and the loop that reports changes."""

    def __init__(
        self, gateway: Gateway, events: Events, section: ScaleoutSection, groups: Mapping[str, GroupScaleout]
    ) -> None:
        self._gateway = gateway
        self._events = events
        self._section = section
        self._groups = groups
        self._known: dict[str, OwnedCluster] | None = None
        self.environments = (DEFAULT_ENVIRONMENT,)
        self.loop = Reconciler("scaleout", self.look, period=PERIOD, longest_pause=LONGEST_PAUSE)

    async def look(self) -> None:
        """Read all clusters once and publish what changed since the last look."""
        present = {cluster.name: cluster for cluster in await self._gateway.clusters()}
        known, self._known = self._known, present
        if known is None:
            return
        for name, cluster in present.items():
            if known.get(name) != cluster:
                self._events.publish(cluster.person, EVENT, cluster.public().model_dump(mode="json"))

    async def sites(self, person: str, groups: Collection[str]) -> Sites:
        """Every site, and what the person may use of it."""
        allowed = allowance(self._section, self._groups, groups)
        mine = [c for c in await self._gateway.clusters() if c.person == person and not c.status.ended]
        free = remaining(allowed, sum(c.adaptive.maximum if c.adaptive else c.workers.wanted for c in mine))
        items = []
        for name, site in self._section.sites.items():
            open_to_me = may_use(site, groups)
            reason = "" if open_to_me else f"It is open to: {', '.join(site.groups)}."
            items.append(
                Site(
                    name=name,
                    kind=site.kind,
                    available=open_to_me,
                    reason=reason,
                    free=free if open_to_me else 0,
                    max_workers=allowed.workers if open_to_me else 0,
                    environments=self.environments,
                )
            )
        return Sites(items=tuple(items))

    async def mine(self, person: str) -> Clusters:
        """The person's clusters, the newest first."""
        mine = [cluster for cluster in await self._gateway.clusters() if cluster.person == person]
        mine.sort(key=lambda cluster: -cluster.started)
        return Clusters(items=tuple(cluster.public() for cluster in mine))

    async def one(self, person: str, name: str) -> Cluster:
        """One cluster; somebody else's is as unknown as none."""
        for cluster in await self._gateway.clusters():
            if cluster.name == name and cluster.person == person:
                return cluster.public()
        raise NotFound("There is no such cluster of yours")

    async def create(self, person: str, groups: Collection[str], wish: NewCluster, key: str | None = None) -> Cluster:
        """Ask for a cluster; it starts by itself from here. The same key gives the same cluster."""
        placement = place(self._section, groups, wish.site, wish.environment, self.environments)
        options = {
            "site": placement.site,
            "environment": placement.environment,
            "workers": wish.workers,
            "request": key or "",
        }
        name = await self._gateway.create(person, groups, options)
        return await self._changed(person, name)

    async def scale(self, person: str, groups: Collection[str], name: str, wish: Scale) -> Cluster:
        """Another number of workers, or a range."""
        cluster = await self.one(person, name)
        if cluster.status.ended:
            raise Conflict("This cluster has ended", "Make a new one.")
        if wish.workers is not None:
            await self._gateway.scale(person, groups, name, wish.workers)
        else:
            await self._gateway.adapt(person, groups, name, wish.minimum or 0, wish.maximum or 0)
        return await self._changed(person, name)

    async def stop(self, person: str, groups: Collection[str], name: str) -> None:
        """End a cluster; one that has ended is forgotten."""
        await self.one(person, name)
        await self._gateway.stop(person, groups, name)
        self.loop.wake()

    async def people(self) -> dict[str, Load]:
        """Everybody who has a cluster that has not ended, and what they run."""
        found: dict[str, Load] = {}
        for cluster in await self._gateway.clusters():
            if not cluster.status.ended:
                load = found.get(cluster.person, Load())
                workers = cluster.workers.running + cluster.workers.starting
                found[cluster.person] = Load(load.clusters + 1, load.workers + workers)
        return found

    async def stop_all(self, person: str) -> list[str]:
        """End every cluster of somebody whose right is gone."""
        ended = await self._gateway.stop_all(person)
        self.loop.wake()
        return ended

    async def _changed(self, person: str, name: str) -> Cluster:
        self.loop.wake()
        return await self.one(person, name)
