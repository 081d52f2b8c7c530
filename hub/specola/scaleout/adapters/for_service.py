"""What the gateway answers to the API service alone: everybody's clusters in one request, and the end of a person's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web

from specola.scaleout.adapters.gateway_auth import bearer
from specola.scaleout.cluster import OwnedCluster

CLUSTERS = "/api/specola/clusters"
PERSON = "/api/specola/people/{person}/clusters"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Clusters(Protocol):
    """The part of the back end that is shown."""

    def clusters(self) -> list[OwnedCluster]:
        """Every cluster that runs or ended lately."""

    async def stop_cluster(self, cluster_name: str, failed: bool = False) -> None:  # noqa: FBT001, FBT002
        """End one cluster."""


def service_routes(backend: Clusters, is_service: Callable[[str], bool]) -> list[web.RouteDef]:
    """The routes, closed to everybody without the service's secret."""

    def guarded(handler: Handler) -> Handler:
        async def inner(request: web.Request) -> web.StreamResponse:
            if not is_service(bearer(request)):
                raise web.HTTPForbidden(reason="Only the API service may ask this")
            return await handler(request)

        return inner

    async def everybody(_: web.Request) -> web.StreamResponse:
        return web.json_response({"items": [cluster.model_dump(mode="json") for cluster in backend.clusters()]})

    async def end_of_person(request: web.Request) -> web.StreamResponse:
        person = request.match_info["person"]
        ended = [c.name for c in backend.clusters() if c.person == person and not c.status.ended]
        for name in ended:
            await backend.stop_cluster(name)
        return web.json_response({"ended": ended})

    return [web.get(CLUSTERS, guarded(everybody)), web.delete(PERSON, guarded(end_of_person))]
