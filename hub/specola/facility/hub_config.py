"""The one pure mapping from a facility to JupyterHub's configuration.

`configure` answers `{class: {trait: value}}`; JupyterHub reads this very file (`jupyterhub -f`) and the last
lines set what the mapping says. Nothing else writes JupyterHub's `c`.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from specola.core.scopes import METRICS, SCOPES, SERVICE_SCOPES
from specola.facility.runtime import Runtime, load_runtime
from specola.identity.model import EmbeddedIdentity, IdentitySettings, Role
from specola.identity.roles import ROLE_SCOPES, hub_roles

EMBEDDED = "embedded"
OUR_ENVIRONMENT = ("LANG", "LC_ALL", "TZ")

Config = dict[str, dict[str, Any]]


def configure(runtime: Runtime) -> Config:
    """Everything that JupyterHub is told, the facility's own escape hatch last."""
    parts = (_hub(runtime), _services(runtime), _identity(runtime), _spawner(runtime))
    config: Config = {}
    for part in (*parts, runtime.facility.jupyterhub):
        for name, traits in part.items():
            config.setdefault(name, {}).update(traits)
    return config


def identity_settings(runtime: Runtime) -> IdentitySettings:
    """What the authenticator needs to know of this facility."""
    identity, layout = runtime.facility.identity, runtime.layout
    groups = {name: (group.roles, group.members) for name, group in runtime.facility.groups.items()}
    common: dict[str, Any] = {
        "groups": groups,
        "callback_url": f"{runtime.public_url}hub/oauth_callback",
        "database": layout.database,
        "outage_grace": identity.outage_grace,
        "recheck_interval": identity.recheck_interval,
        "on_revoked": f"{runtime.service_url}api/v1/scaleout/people",
        "on_revoked_token": layout.secret("service"),
    }
    if isinstance(identity, EmbeddedIdentity):
        return IdentitySettings(
            issuer=runtime.issuer_url,
            back_channel=runtime.issuer_back_channel,
            known_as=EMBEDDED,
            client_id="specola-hub",
            client_secret=layout.secret("issuer-client"),
            **common,
        )
    return IdentitySettings(
        issuer=str(identity.issuer),
        back_channel=None,
        client_id=identity.client_id,
        client_secret=identity.client_secret.read().get_secret_value(),
        scopes=identity.scopes,
        username_claim=identity.username_claim,
        **common,
    )


def service_host(_name: str, domain: str, kind: str) -> str:
    """Subdomains for people only: our services stay on the hub's own host."""
    if kind == "service":
        return domain
    from jupyterhub.utils import subdomain_hook_idna

    return str(subdomain_hook_idna(_name, domain, kind))


def _hub(runtime: Runtime) -> Config:
    layout, ports = runtime.layout, runtime.ports
    public = urlsplit(runtime.public_url)
    hub: dict[str, Any] = {
        "bind_url": f"http://127.0.0.1:{ports.proxy}",
        "hub_bind_url": f"http://127.0.0.1:{ports.hub}",
        "hub_connect_url": f"http://127.0.0.1:{ports.hub}",
        "public_url": runtime.public_url,
        "db_url": f"sqlite:///{layout.state}/hub/jupyterhub.sqlite",
        "upgrade_db": True,
        "cookie_secret_file": str(layout.secrets / "cookie"),
        "cleanup_servers": False,
        "cleanup_proxy": False,
        "default_url": "/services/specola/",
        "allow_named_servers": True,
        "named_server_limit_per_user": 5,
        "last_activity_interval": 60,
        "concurrent_spawn_limit": 0,
        "tornado_settings": {"slow_spawn_timeout": 0},
    }
    if runtime.facility.subdomains:
        hub |= {"subdomain_host": f"{public.scheme}://{public.netloc}", "subdomain_hook": service_host}
    proxy = {
        "should_start": False,
        "api_url": f"http://127.0.0.1:{ports.proxy_api}",
        "auth_token": layout.secret("proxy"),
    }
    return {
        "JupyterHub": hub,
        "ConfigurableHTTPProxy": proxy,
        "CryptKeeper": {"keys": [bytes.fromhex(layout.secret("crypt"))]},
    }


def _services(runtime: Runtime) -> Config:
    layout, ports = runtime.layout, runtime.ports
    allowed = ["access:services!service=specola", "read:users!user", "read:users:groups!user", *SCOPES]
    services = [
        {
            "name": "specola",
            "url": f"http://127.0.0.1:{ports.service}",
            "api_token": layout.secret("service"),
            "oauth_no_confirm": True,
            "oauth_redirect_uri": "/services/specola/oauth_callback",
            "oauth_client_allowed_scopes": allowed,
            "display": False,
        },
        {
            "name": "dask-gateway",
            "url": f"http://127.0.0.1:{ports.gateway_proxy}",
            "display": False,
        },
        {"name": "router", "api_token": layout.secret("router"), "display": False},
        {"name": "prometheus", "api_token": layout.secret("metrics"), "display": False},
    ]
    if isinstance(runtime.facility.identity, EmbeddedIdentity):
        services.append({"name": "issuer", "url": f"http://127.0.0.1:{ports.issuer}", "display": False})
    roles = [
        *hub_roles({name: group.roles for name, group in runtime.facility.groups.items()}),
        {"name": "specola-service", "scopes": list(SERVICE_SCOPES), "services": ["specola"]},
        {"name": "specola-router", "scopes": ["proxy"], "services": ["router"]},
        {"name": "specola-prometheus", "scopes": [METRICS], "services": ["prometheus"]},
    ]
    custom = {scope: {"description": text} for scope, text in SCOPES.items()}
    return {
        "JupyterHub": {
            "services": services,
            "load_roles": roles,
            "custom_scopes": custom,
        }
    }


def _identity(runtime: Runtime) -> Config:
    return {
        "JupyterHub": {"authenticator_class": "specola"},
        "SpecolaAuthenticator": {"settings": identity_settings(runtime)},
    }


def _spawner(runtime: Runtime) -> Config:
    """A server's own token gets its rights one by one: the default has none of ours."""
    scopes = [
        "users:activity!user",
        "access:servers!server",
        "read:users:groups!user",
        "read:users:name!user",
        *(scope for scope in ROLE_SCOPES[Role.USER] if scope.startswith(("custom:", "access:services"))),
    ]
    return {
        "JupyterHub": {"spawner_class": "specola-local"},
        "Spawner": {
            "server_token_scopes": scopes,
            "env_keep": list(OUR_ENVIRONMENT),
            "environment": server_environment(runtime),
            "default_url": "/lab",
            "start_timeout": 300,
            "http_timeout": 240,
            "poll_interval": 10,
        },
    }


def server_environment(runtime: Runtime) -> dict[str, str]:
    """What a user's server is told of the facility; nothing of it is secret."""
    facility, ports = runtime.facility, runtime.ports
    quota = facility.homes.quota_gib
    skeletons = [
        str(path) for path in (runtime.addresses.env / "share/specola/skeleton", facility.homes.skeleton) if path
    ]
    return {
        "SPECOLA_API_URL": f"{runtime.service_url}api/v1/",
        "SPECOLA_FACILITY": facility.name,
        "SPECOLA_SEPARATE_ACCOUNTS": "1" if runtime.addresses.separate_accounts else "0",
        "SPECOLA_HOME_QUOTA_GIB": "" if quota is None else str(quota),
        "SPECOLA_SKELETON": ":".join(skeletons),
        "DASK_GATEWAY__ADDRESS": f"http://127.0.0.1:{ports.gateway}",
        "DASK_GATEWAY__PROXY_ADDRESS": f"gateway://127.0.0.1:{ports.gateway_tcp}",
        "DASK_GATEWAY__PUBLIC_ADDRESS": "/services/dask-gateway",
        "DASK_GATEWAY__AUTH__TYPE": "jupyterhub",
    }


def _apply(target: Any) -> None:
    for name, traits in configure(load_runtime()).items():
        for trait, value in traits.items():
            target[name][trait] = value


if "get_config" in globals():
    _apply(globals()["get_config"]())
