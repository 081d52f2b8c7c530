"""The whole API service in this process, beside a fake hub."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fakehub import EVERYTHING, SERVICE_TOKEN, FakeHub, State
from running import free_port
from specola.core.layout import Layout
from specola.core.reconcile import Reconciler
from specola.facility.model import Facility
from specola.facility.runtime import Addresses, Ports, Runtime
from specola.server.wiring import Service, build
from tornado.web import create_signed_value

API = "/services/specola/api/v1"
COOKIE = "service-specola"


@dataclass
class Rig:
    """A running service and a way to ask it."""

    hub: FakeHub
    service: Service
    runtime: Runtime
    http: httpx.AsyncClient
    loops: list[Reconciler] = field(default_factory=list)
    """of the service; a test starts those that it needs"""

    @property
    def state(self) -> State:
        return self.hub.state

    def token(self, name: str = "anna", scopes: tuple[str, ...] = EVERYTHING, kind: str = "user") -> dict[str, str]:
        """Headers of somebody with a new token."""
        return {"Authorization": f"token {self.state.token(name, scopes, kind)}"}

    async def ask(self, method: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        return await self.http.request(method, API + path, headers=headers, **more)

    def browser(self, name: str = "anna", scopes: tuple[str, ...] = EVERYTHING) -> dict[str, str]:
        """The cookie header of a browser that has logged in."""
        secret = self.runtime.layout.secret("service-cookie")
        value = create_signed_value(secret, COOKIE, self.state.token(name, scopes)).decode()
        return {"Cookie": f"{COOKIE}={value}"}


def runtime_for(tmp_path: Path, hub: FakeHub, facility: Facility | None = None) -> Runtime:
    layout = Layout(tmp_path / "state")
    layout.secrets.mkdir(parents=True, exist_ok=True)
    for name, value in (("service", SERVICE_TOKEN), ("service-cookie", secrets.token_hex(16))):
        if not (layout.secrets / name).exists():
            (layout.secrets / name).write_text(value)
    others = dict.fromkeys(("proxy", "proxy_api", "issuer", "gateway_proxy", "gateway_tcp"), 1)
    ports = Ports(hub=hub.port, gateway=hub.gateway_port, service=free_port(), **others)
    addresses = Addresses(ports=ports, public_url="http://localhost/", env=tmp_path, separate_accounts=False)
    document: dict[str, Any] = {"groups": {"physics": {}, "ops": {"roles": ["admin"], "members": ["bob"]}}}
    return Runtime(layout, facility or Facility.model_validate(document), addresses)


@contextlib.asynccontextmanager
async def serving(tmp_path: Path, facility: Facility | None = None) -> AsyncIterator[Rig]:
    hub = FakeHub()
    runtime = runtime_for(tmp_path, hub, facility)
    service = build(runtime)
    loops, service.loops = service.loops, []
    await service.start(runtime.ports.service)
    base = f"http://127.0.0.1:{runtime.ports.service}"
    async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=60) as http:
        try:
            yield Rig(hub, service, runtime, http, loops)
        finally:
            service.loops = loops
            await service.stop(0.5)
            await hub.stop()
