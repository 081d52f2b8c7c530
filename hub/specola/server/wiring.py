"""Which adapter goes into which service, and which routes are mounted where."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import sqlalchemy as sa
from tornado.httpserver import HTTPServer
from tornado.web import Application

from specola.client.hub import Hub
from specola.core import log
from specola.core.database import open_database
from specola.core.events import Bus
from specola.core.layout import SECRETS
from specola.core.reconcile import Reconciler
from specola.core.scopes import METRICS
from specola.facility.runtime import Runtime
from specola.http.app import MAX_BODY, Surroundings, api_handlers, application
from specola.http.auth import PREFIX, Doorkeeper, Lookup, browser_session
from specola.http.idempotency import Idempotency
from specola.http.metrics import Metrics
from specola.http.openapi import BASE
from specola.http.route import PUBLIC, Caller, Request, Route, Text
from specola.identity.adapters.people import People
from specola.identity.service import GroupRights, IdentityService, MyLimits
from specola.scaleout.adapters.gateway import GatewayApi
from specola.scaleout.service import ScaleoutService
from specola.server.gpu_page import gpu_handlers
from specola.server.gpus import gpu_service
from specola.server.openapi import all_routes, api_routes
from specola.server.page import ASSET, PAGE, Facts, page_handlers
from specola.servers.culling import Limits
from specola.servers.service import ServersService

__all__ = ["Service", "all_routes", "build"]


@dataclass
class Service:
    """One API service, ready to listen."""

    app: Application
    engine: sa.Engine
    bus: Bus
    routes: list[Route]
    loops: list[Reconciler] = field(default_factory=list)
    closing: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    _server: HTTPServer | None = None

    async def start(self, port: int) -> None:
        """Listen on loopback and begin the loops."""
        # above MAX_BODY a request still gets its 413 as a problem; far above it the connection is cut
        self._server = HTTPServer(self.app, xheaders=True, max_body_size=64 * MAX_BODY, body_timeout=60)
        self._server.listen(port, "127.0.0.1")
        for loop in self.loops:
            loop.start()

    async def stop(self, grace: float) -> None:
        """End: no new requests, those that run get `grace` seconds, streams are cut."""
        for loop in self.loops:
            await loop.stop()
        if self._server is not None:
            self._server.stop()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._server.close_all_connections(), grace)
        for close in self.closing:
            await close()
        self.engine.dispose()


def identity_service(runtime: Runtime) -> IdentityService:
    """Groups and limits as the facility file has them, names as the login found them."""
    facility = runtime.facility
    pools = facility.gpu.pools.values()
    groups = {
        name: GroupRights(
            roles=group.roles,
            members=group.members,
            memory_gib=group.memory_gib,
            cores=group.cores,
            workers=group.scaleout.max_workers,
            gpu=any(not pool.groups or name in pool.groups for pool in pools),
        )
        for name, group in facility.groups.items()
    }
    limits = MyLimits(
        memory_gib=facility.servers.memory_gib, cores=facility.servers.cores, workers=facility.scaleout.max_workers
    )
    return IdentityService(groups, limits, People(runtime.layout.database).full_name, has_gpus=bool(pools))


def scaleout_service(runtime: Runtime, bus: Bus) -> tuple[ScaleoutService, GatewayApi]:
    """Clusters, asked of the gateway with the service's own secret."""
    facility = runtime.facility
    gateway = GatewayApi(f"http://127.0.0.1:{runtime.ports.gateway}", runtime.layout.secret("service"))
    groups = {name: group.scaleout for name, group in facility.groups.items()}
    return ScaleoutService(gateway, bus, facility.scaleout, groups), gateway


def own_routes(metrics: Metrics) -> list[Route]:
    """What lies beside the API: health and metrics."""

    async def healthz(_caller: Caller, _request: Request) -> Text:
        return Text('{"status":"ok"}', "application/json")

    async def measured(_caller: Caller, _request: Request) -> Text:
        return metrics.text()

    return [
        Route("GET", "/healthz", PUBLIC, healthz, summary="The service answers"),
        Route("GET", "/metrics", METRICS, measured, summary="Measurements for Prometheus"),
    ]


def build(runtime: Runtime) -> Service:
    """The service of one facility."""
    layout, facility = runtime.layout, runtime.facility
    for name in SECRETS:
        if (layout.secrets / name).exists():
            log.secret(layout.secret(name))
    engine = open_database(layout.database)
    token = layout.secret("service")
    hub = Hub(runtime.hub_api_url, token)
    lookup = Lookup(hub)
    session = browser_session(lookup, runtime.hub_api_url, token)
    bus = Bus()
    metrics = Metrics()
    limits = Limits(facility.servers.idle_limit, facility.servers.idle_warning, facility.servers.longest_life)
    identity = identity_service(runtime)
    servers = ServersService(hub, engine, bus, metrics, limits)
    scaleout, gateway = scaleout_service(runtime, bus)
    gpus = gpu_service(runtime, engine, bus, hub, metrics.registry)
    api = api_routes(identity, servers, scaleout, gpus, bus)
    own = own_routes(metrics)
    metrics.know((PAGE, ASSET, *(route.name for route in (*api, *own))))
    around = Surroundings(Doorkeeper(lookup, session), metrics, Idempotency(engine))
    facts = Facts.of(runtime)
    handlers = [
        *api_handlers(BASE, api, around),
        *api_handlers(PREFIX, own, around),
        *page_handlers(around, facts, identity, servers),
        *gpu_handlers(around, facts, gpus),
    ]
    app = application(handlers, around, layout.secret("service-cookie"))
    return Service(
        app, engine, bus, [*api, *own], [servers.loop, scaleout.loop, gpus.loop], [gpus.close, hub.close, gateway.close]
    )
