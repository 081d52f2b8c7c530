"""`dask-gateway-server -f …/gateway_config.py`, with `SPECOLA_STATE` in the environment."""

from typing import Any

from specola.core import log
from specola.facility.runtime import load_runtime
from specola.scaleout.adapters.gateway_log import adopt
from specola.scaleout.adapters.gateway_settings import GatewayNeeds, gateway_settings

adopt()
runtime = load_runtime()
layout = runtime.layout
database = layout.state / "gateway" / "gateway.sqlite"
database.parent.mkdir(mode=0o700, exist_ok=True)
needs = GatewayNeeds(
    ports=runtime.ports,
    hub_api_url=runtime.hub_api_url,
    launcher_socket=layout.launcher_socket,
    database=database,
    prefix=runtime.addresses.env,
    section=runtime.facility.scaleout,
    groups={name: group.scaleout for name, group in runtime.facility.groups.items()},
    service_token=log.secret(layout.secret("service")),
    proxy_token=log.secret(layout.secret("gateway-proxy")),
    database_key=log.secret(layout.secret("gateway-db")),
)
c: Any = get_config()  # type: ignore[name-defined]  # noqa: F821 - traitlets puts it here
for owner, traits in gateway_settings(needs).items():
    for trait, value in traits.items():
        setattr(c[owner], trait, value)
