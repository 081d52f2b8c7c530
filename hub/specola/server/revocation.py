"""What the hub asks when it watches over membership: who has clusters or GPUs, and the end of somebody's."""

from __future__ import annotations

import logging

from pydantic import Field

from specola.core.scopes import ADMIN
from specola.core.section import Section
from specola.gpu.service import GpuService
from specola.http.route import Caller, Request, Route
from specola.scaleout.service import Load, ScaleoutService

log = logging.getLogger(__name__)


class Running(Section):
    """What somebody has running."""

    name: str = Field(description="login name")
    clusters: int
    workers: int = Field(description="at work or on their way")
    gpus: int = Field(default=0, description="slices held and waited for")


class People(Section):
    """Login names, and what each of them has running."""

    items: tuple[str, ...]
    running: tuple[Running, ...] = Field(default=(), description="in the order of items")
    next: None = None


class Person(Section):
    """Whose clusters are meant."""

    name: str = Field(min_length=1, max_length=200)


class Ended(Section):
    """The clusters, leases and requests that were told to end."""

    items: tuple[str, ...]
    next: None = None


def routes(service: ScaleoutService, slices: GpuService) -> list[Route]:
    """The routes over both services; only the hub and administrators have their scope."""

    async def people(_caller: Caller, _request: Request) -> People:
        clusters, gpus = await service.people(), await slices.people()
        running = tuple(
            Running(name=name, clusters=load.clusters, workers=load.workers, gpus=gpus.get(name, 0))
            for name in sorted({*clusters, *gpus})
            for load in (clusters.get(name, Load()),)
        )
        return People(items=tuple(one.name for one in running), running=running)

    async def stop(caller: Caller, request: Request) -> Ended:
        person = request.read(Person)
        log.info("%s ends the clusters and GPU leases of %s", caller.name, person.name)
        # slices first: a gateway that does not answer must not keep them
        ended = await slices.end_all(person.name)
        return Ended(items=(*ended, *await service.stop_all(person.name)))

    path = "/scaleout/people"
    return [
        Route("GET", path, ADMIN, people, response=People, summary="Everybody who has a cluster or a GPU"),
        Route(
            "POST",
            path,
            ADMIN,
            stop,
            request=Person,
            response=Ended,
            status=202,
            summary="End somebody's clusters and leases",
        ),
    ]
