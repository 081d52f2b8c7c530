"""The settings of dask-gateway-server for one facility: a pure mapping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from specola.scaleout.adapters.proxy_command import PREFIX, ProxyPorts
from specola.scaleout.model import GroupScaleout, ScaleoutSection

HEARTBEAT = 5
SILENCE = 120.0
WORKER_START = 3600.0
CLUSTER_START = 120.0
STATUS_PERIOD = 3.0


@dataclass(frozen=True)
class GatewayNeeds:
    """Everything about a facility that its gateway has to know."""

    ports: ProxyPorts
    hub_api_url: str
    launcher_socket: Path
    database: Path
    prefix: Path
    section: ScaleoutSection
    groups: Mapping[str, GroupScaleout]
    service_token: str = field(repr=False)
    proxy_token: str = field(repr=False)
    database_key: str = field(repr=False)


def gateway_settings(needs: GatewayNeeds) -> dict[str, dict[str, Any]]:
    """Class → trait → value.

    Heartbeats go to the gateway itself, not through its proxy, which may be killed. Silence is no proof of
    death: a scheduler whose process is gone is noticed through the launcher within `STATUS_PERIOD`.
    """
    ports = needs.ports
    return {
        "DaskGateway": {
            "backend_class": "specola.scaleout.adapters.backend.LauncherBackend",
            "authenticator_class": "specola.scaleout.adapters.gateway_auth.GatewayAuthenticator",
            "address": f"127.0.0.1:{ports.gateway}",
        },
        "GatewayAuthenticator": {"hub_api_url": needs.hub_api_url, "service_token": needs.service_token},
        "Proxy": {
            "externally_managed": True,
            "address": f"127.0.0.1:{ports.gateway_proxy}",
            "tcp_address": f"127.0.0.1:{ports.gateway_tcp}",
            "prefix": PREFIX,
            "api_token": needs.proxy_token,
        },
        "LauncherBackend": {
            "api_url": f"http://127.0.0.1:{ports.gateway}/api",
            "launcher_socket": str(needs.launcher_socket),
            "prefix": str(needs.prefix),
            "section": needs.section,
            "group_table": dict(needs.groups),
            "db_url": f"sqlite:///{needs.database}",
            "db_encrypt_keys": [needs.database_key],
            "stop_clusters_on_shutdown": False,
            "cluster_heartbeat_period": HEARTBEAT,
            "cluster_heartbeat_timeout": SILENCE,
            "cluster_start_timeout": CLUSTER_START,
            "cluster_status_period": STATUS_PERIOD,
            "worker_start_timeout": WORKER_START,
            "worker_status_period": STATUS_PERIOD,
            "watch_period": STATUS_PERIOD,
            "check_timeouts_period": STATUS_PERIOD,
        },
    }
