"""The command of dask-gateway's client proxy as a process of its own.

It must not be the gateway's child: it carries the connections of stock clients, and would die with it.
It asks the gateway for its routes when it starts and follows their changes.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Protocol

PREFIX = "/services/dask-gateway"
TOKEN_VARIABLE = "DASK_GATEWAY_PROXY_TOKEN"  # noqa: S105 - the name of a variable


class ProxyPorts(Protocol):
    """The ports that concern the client proxy."""

    @property
    def gateway(self) -> int:
        """The gateway itself."""

    @property
    def gateway_proxy(self) -> int:
        """HTTP of the client proxy."""

    @property
    def gateway_tcp(self) -> int:
        """Connections of stock clients to schedulers."""


class HasPorts(Protocol):
    """The part of a runtime that the proxy's command is made from."""

    @property
    def ports(self) -> ProxyPorts:
        """The facility's ports."""


def program() -> Path:
    """The binary that dask-gateway-server's wheel carries."""
    spec = importlib.util.find_spec("dask_gateway_server")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package dask-gateway-server is not installed: pip install 'specola[hub]'")
    return Path(spec.origin).parent / "proxy" / "dask-gateway-proxy"


def proxy_argv(runtime: HasPorts) -> list[str]:
    """The command line; the secret `gateway-proxy` goes into `DASK_GATEWAY_PROXY_TOKEN`."""
    ports = runtime.ports
    return [
        str(program()),
        *("-address", f"127.0.0.1:{ports.gateway_proxy}"),
        *("-tcp-address", f"127.0.0.1:{ports.gateway_tcp}"),
        *("-api-url", f"http://127.0.0.1:{ports.gateway}/api/v1/routes"),
        *("-log-level", "warn"),
    ]
