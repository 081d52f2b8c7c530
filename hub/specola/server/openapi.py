"""The whole table of the API, and the document that is made from it."""

from __future__ import annotations

from typing import Any, cast

from specola.core.events import Bus
from specola.gpu import routes as gpu
from specola.gpu.service import GpuService
from specola.http.openapi import document
from specola.http.route import Route
from specola.identity import routes as identity
from specola.identity.service import IdentityService
from specola.scaleout import routes as scaleout
from specola.scaleout.service import ScaleoutService
from specola.server import events, revocation
from specola.servers import routes as servers
from specola.servers.service import ServersService


def api_routes(
    who: IdentityService, notebooks: ServersService, clusters: ScaleoutService, gpus: GpuService, bus: Bus
) -> list[Route]:
    """Every route below `/services/specola/api/v1`."""
    return [
        *identity.routes(who),
        *servers.routes(notebooks),
        *gpu.routes(gpus),
        *scaleout.routes(clusters),
        *revocation.routes(clusters, gpus),
        *events.routes(bus),
    ]


def all_routes() -> list[Route]:
    """The table without a running facility: its services are needed only when a handler is called."""
    nothing = cast("Any", None)
    return api_routes(nothing, nothing, nothing, nothing, nothing)


def openapi() -> dict[str, Any]:
    """The OpenAPI document of the whole API."""
    return document(all_routes())
