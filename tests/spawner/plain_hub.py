"""A plain JupyterHub with our spawner and a login for tests; everything else of the facility is left out."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

from specola.core.layout import Layout
from specola.facility.model import Facility
from specola_spawner.local import LauncherSpawner

here = json.loads(os.environ["HUB_FOR_TEST"])
layout = Layout(Path(here["state"]))
c = get_config()  # noqa: F821 - JupyterHub's own
c.JupyterHub.bind_url = here["url"]
c.JupyterHub.hub_bind_url = here["hub"]
c.JupyterHub.db_url = f"sqlite:///{here['top']}/hub.sqlite"
c.JupyterHub.cookie_secret_file = f"{here['top']}/cookie"
c.JupyterHub.cleanup_servers = False
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
c.JupyterHub.allow_named_servers = True
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = here["proxy_api"]
c.ConfigurableHTTPProxy.auth_token = "proxy"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.services = [{"name": "test", "api_token": "test-token-of-the-test"}]
c.JupyterHub.load_roles = [
    {"name": "test", "services": ["test"], "scopes": ["admin:users", "admin:servers", "access:servers", "tokens"]}
]
c.JupyterHub.spawner_class = LauncherSpawner
c.Spawner.env_keep = ["LANG"]
c.Spawner.environment = {"SPECOLA_SEPARATE_ACCOUNTS": "1"}
c.Spawner.default_url = "/lab"
c.Spawner.poll_interval = 2
c.LauncherSpawner.runtime = SimpleNamespace(
    layout=layout,
    facility=Facility.model_validate(here["facility"]),
    addresses=SimpleNamespace(env=Path(here["env"])),
    service_url=here["service"],
)
