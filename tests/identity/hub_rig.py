"""A real JupyterHub with our authenticator, without a proxy: the browser talks to the hub's own port."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import httpx
from identity_rig import SECRET
from running import free_port

LOOKER = "planted-looker-token-0001"

CONFIG = '''
import sys
from jupyterhub.proxy import Proxy
from jupyterhub.spawner import SimpleLocalProcessSpawner
from pathlib import Path
from specola.core.scopes import SCOPES
from specola.identity.model import IdentitySettings, Role
from specola.identity.roles import hub_roles

class NoProxy(Proxy):
    should_start = False
    async def add_route(self, routespec, target, data):
        self.table()[routespec] = dict(routespec=routespec, target=target, data=data)
    async def delete_route(self, routespec): self.table().pop(routespec, None)
    async def get_all_routes(self): return dict(self.table())
    def table(self): return self.__dict__.setdefault("_table", {})

class TinyServer(SimpleLocalProcessSpawner):
    cmd = [sys.executable, "-c", """
import http.server, os, urllib.parse
port = urllib.parse.urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"]).port
http.server.HTTPServer(("127.0.0.1", port), http.server.SimpleHTTPRequestHandler).serve_forever()
"""]

values = %(values)r
c = get_config()
c.JupyterHub.bind_url = values["url"]
c.JupyterHub.hub_bind_url = values["url"]
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.spawner_class = TinyServer
c.SimpleLocalProcessSpawner.home_dir_template = values["place"] + "/{username}"
c.JupyterHub.db_url = "sqlite:///" + values["place"] + "/hub.sqlite"
c.JupyterHub.cookie_secret_file = values["place"] + "/cookie"
c.JupyterHub.cleanup_servers = values["cleanup"]
c.JupyterHub.log_level = "DEBUG"
c.CryptKeeper.keys = [b"0" * 32]
c.JupyterHub.authenticator_class = "specola.identity.adapters.authenticator.SpecolaAuthenticator"
c.Authenticator.auth_refresh_age = values["refresh_age"]
groups = {"physics": ((Role.USER,), ("dora",)), "ops": ((Role.ADMIN,), ("marco",))}
c.SpecolaAuthenticator.settings = IdentitySettings(
    callback_url=values["url"] + "/hub/oauth_callback",
    database=Path(values["place"]) / "specola.sqlite",
    groups=groups,
    **values["settings"],
)
c.JupyterHub.custom_scopes = {name: {"description": text} for name, text in SCOPES.items()}
c.JupyterHub.services = [
    {"name": "look", "api_token": %(looker)r},
    {"name": "specola", "url": "http://127.0.0.1:9", "api_token": "x" * 40},
    {"name": "dask-gateway", "url": "http://127.0.0.1:9", "api_token": "y" * 40},
]
c.JupyterHub.load_roles = [
    *hub_roles({name: roles for name, (roles, _) in groups.items()}),
    {"name": "look", "services": ["look"], "scopes": ["read:users", "list:users", "servers", "tokens"]},
]
'''


@dataclass
class RunningHub:
    """A hub process and what can be asked of it."""

    url: str
    place: Path
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        return (self.place / "hub.log").read_text()

    def api(self, path: str, method: str = "GET", token: str = LOOKER, **kwargs: Any) -> httpx.Response:
        headers = {"Authorization": f"token {token}"}
        return httpx.request(method, f"{self.url}/hub/api/{path}", headers=headers, timeout=60, **kwargs)

    def user(self, name: str) -> dict[str, Any]:
        return dict(self.api(f"users/{name}").json())

    def until(self, what: Any, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, self.log[-3000:]
            time.sleep(0.1)


@contextmanager
def hub_running(
    place: Path, settings: dict[str, Any], *, port: int | None = None, refresh_age: int = 1, cleanup: bool = True
) -> Iterator[RunningHub]:
    place.mkdir(exist_ok=True)
    url = f"http://127.0.0.1:{port or free_port()}"
    values = {"url": url, "place": str(place), "settings": settings, "refresh_age": refresh_age, "cleanup": cleanup}
    config = place / "jupyterhub_config.py"
    config.write_text(CONFIG % {"values": values, "looker": LOOKER})
    environment = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    with (place / "hub.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "-f", str(config)], stdout=log, stderr=log, env=environment, cwd=place
        )
    hub = RunningHub(url, place, process)
    try:
        hub.until(lambda: process.poll() is not None or _answers(url), 180)
        assert process.poll() is None, hub.log[-3000:]
        yield hub
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/hub/health").status_code == 200
    except httpx.HTTPError:
        return False


def client_settings(issuer: str, **more: Any) -> dict[str, Any]:
    return {"issuer": issuer, "client_id": "specola-hub", "client_secret": SECRET, "recheck_interval": 3600.0} | more


class Browser:
    """Follows redirects and fills in the login forms, ours and the foreign one's."""

    def __init__(self, hub: RunningHub) -> None:
        self.hub = hub
        self.http = httpx.Client(follow_redirects=True, timeout=60)

    def get(self, path: str) -> httpx.Response:
        return self.http.get(f"{self.hub.url}{path}")

    def log_in(self, name: str, password: str) -> httpx.Response:
        """At our own issuer."""
        page = self.get("/hub/login?next=/hub/home")
        found = re.search(r'name="form" value="([^"]+)"', page.text)
        if found is None:
            return page
        data = {"form": unescape(found[1]), "username": name, "password": password}
        origin = f"{page.url.scheme}://{page.url.netloc.decode()}"
        return self.http.post(page.url, data=data, headers={"Origin": origin})

    def log_in_as(self, subject: str) -> httpx.Response:
        """At oidc-provider-mock, which asks for no password."""
        page = self.get("/hub/login?next=/hub/home")
        return self.http.post(page.url, data={"sub": subject})

    def is_in(self) -> bool:
        answer = self.http.get(f"{self.hub.url}/hub/home", follow_redirects=False)
        return answer.status_code == 200
