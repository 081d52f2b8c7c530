"""Every scope that Specola adds to JupyterHub's, in one table.

`custom:specola:<feature>` reads, `…:write` changes. JupyterHub's `custom_scopes`, the roles, the
API's routes and the table in docs/api.md all come from here.
"""

from __future__ import annotations

SERVICE_NAME = "specola"

IDENTITY = "custom:specola:identity"
GPU = "custom:specola:gpu"
GPU_WRITE = "custom:specola:gpu:write"
SCALEOUT = "custom:specola:scaleout"
SCALEOUT_WRITE = "custom:specola:scaleout:write"
SERVERS = "custom:specola:servers"
SERVERS_WRITE = "custom:specola:servers:write"
ADMIN = "custom:specola:admin"

SCOPES: dict[str, str] = {
    IDENTITY: "See who I am, my groups, my rights and the notices of the facility",
    GPU: "See the GPUs, my requests and my leases",
    GPU_WRITE: "Ask for GPUs, and use, renew and release my leases",
    SCALEOUT: "See my Dask clusters and the sites that I may use",
    SCALEOUT_WRITE: "Create, scale and stop my Dask clusters",
    SERVERS: "See my notebook servers and when they will be stopped",
    SERVERS_WRITE: "Start and stop my notebook servers and report their activity",
    ADMIN: "Operate the facility",
}

ACCESS = f"access:services!service={SERVICE_NAME}"
METRICS = "read:metrics"

SERVICE_SCOPES: tuple[str, ...] = (
    "list:users",
    "read:users",
    "read:users:activity",
    "read:servers",
    "servers",
    "delete:servers",
    GPU,
    GPU_WRITE,
    ADMIN,
)
"""What the API service's own token may do: look at everybody's servers at the hub, start and stop them.

The hub uses the same token when it tells the service whose right has gone (`ADMIN`), and when it starts and ends a
server with a GPU slice (`GPU_WRITE`).
"""


def allows(held: frozenset[str], wanted: str, person: str) -> bool:
    """Whether the scopes of a token include one, also when limited to the person themself."""
    return wanted in held or f"{wanted}!user={person}" in held or f"{wanted}!user" in held
