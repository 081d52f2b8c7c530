"""`/scaleout`: the caller's Dask clusters and the sites where workers run."""

from __future__ import annotations

from specola.core.scopes import SCALEOUT, SCALEOUT_WRITE
from specola.http.route import Caller, Request, Route
from specola.scaleout.api import Clusters, NewCluster, Scale, Sites
from specola.scaleout.cluster import Cluster
from specola.scaleout.service import ScaleoutService


def routes(service: ScaleoutService) -> list[Route]:
    """The routes over one service."""

    async def sites(caller: Caller, _request: Request) -> Sites:
        return await service.sites(caller.name, caller.groups)

    async def mine(caller: Caller, _request: Request) -> Clusters:
        return await service.mine(caller.name)

    async def create(caller: Caller, request: Request) -> Cluster:
        return await service.create(caller.name, caller.groups, request.read(NewCluster), request.idempotency_key)

    async def one(caller: Caller, request: Request) -> Cluster:
        return await service.one(caller.name, request.path_args["name"])

    async def scale(caller: Caller, request: Request) -> Cluster:
        return await service.scale(caller.name, caller.groups, request.path_args["name"], request.read(Scale))

    async def stop(caller: Caller, request: Request) -> None:
        await service.stop(caller.name, caller.groups, request.path_args["name"])

    base, name = "/scaleout/clusters", "/scaleout/clusters/{name}"
    return [
        Route("GET", "/scaleout/sites", SCALEOUT, sites, response=Sites, summary="Where workers can run"),
        Route("GET", base, SCALEOUT, mine, response=Clusters, summary="My clusters"),
        Route(
            "POST",
            base,
            SCALEOUT_WRITE,
            create,
            request=NewCluster,
            response=Cluster,
            status=202,
            summary="Ask for a cluster",
        ),
        Route("GET", name, SCALEOUT, one, response=Cluster, summary="One of my clusters"),
        Route(
            "POST",
            f"{name}/scale",
            SCALEOUT_WRITE,
            scale,
            request=Scale,
            response=Cluster,
            status=202,
            summary="Ask for more or fewer workers",
        ),
        Route("DELETE", name, SCALEOUT_WRITE, stop, status=204, summary="Stop a cluster"),
    ]
