"""Stock JupyterHub: its proxy, SimpleLocalProcessSpawner, JupyterLab, DummyAuthenticator; from the same packages."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
from running import free_port
from specola.facility.processes import node, proxy_program

from bench.client import Person

# Ours is switched off, and what came into the environment with it: a stock hub has JupyterLab and its own extension.
CONFIG = """
import os, sys
port, api, hub, place = {ports[0]}, {ports[1]}, {ports[2]}, {place!r}
c.JupyterHub.bind_url = f"http://127.0.0.1:{{port}}/"
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{{hub}}/hub/"
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{{api}}"
c.ConfigurableHTTPProxy.command = {proxy!r}
c.JupyterHub.spawner_class = "simple"
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = {password!r}
c.Authenticator.allow_all = True
c.JupyterHub.db_url = f"sqlite:///{{place}}/hub.sqlite"
c.JupyterHub.cookie_secret_file = f"{{place}}/cookie"
c.ConfigurableHTTPProxy.pid_file = f"{{place}}/proxy.pid"
c.SimpleLocalProcessSpawner.home_dir_template = place + "/homes/{{username}}"
c.Spawner.cmd = [sys.executable, "-m", "jupyterhub.singleuser"]
c.Spawner.args = ["--ServerApp.jpserver_extensions=specola_lab=False",
                  "--ServerApp.jpserver_extensions=jupyter_server_proxy=False"]
c.Spawner.args += ["--allow-root"] if os.geteuid() == 0 else []
c.JupyterHub.load_roles = [{{"name": "bench", "services": ["bench"],
    "scopes": ["admin:users", "admin:servers", "tokens", "access:servers"]}}]
c.JupyterHub.services = [{{"name": "bench", "api_token": {token!r}}}]
"""


@contextlib.contextmanager
def hub(names: Sequence[str]) -> Iterator[list[Person]]:
    """A running stock hub and these people with a token each."""
    with tempfile.TemporaryDirectory(prefix="stock-") as folder:
        place, token, ports = Path(folder), secrets.token_hex(32), [free_port() for _ in range(3)]
        config = place / "jupyterhub_config.py"
        proxy = [str(node()), str(proxy_program())]
        config.write_text(
            CONFIG.format(ports=ports, place=folder, proxy=proxy, password=secrets.token_hex(16), token=token)
        )
        log = (place / "hub.log").open("w")
        command = [sys.executable, "-m", "jupyterhub", "-f", str(config)]
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        url = f"http://127.0.0.1:{ports[0]}/"
        try:
            _wait(url, process, place / "hub.log")
            yield [_person(url, name, token) for name in names]
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            log.close()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    limit = time.monotonic() + 120
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}hub/health", timeout=5).is_success:
                return
        if process.poll() is not None or time.monotonic() > limit:
            raise AssertionError(f"the stock hub did not start:\n{log.read_text()[-3000:]}")
        time.sleep(0.2)


def _person(url: str, name: str, token: str) -> Person:
    with httpx.Client(headers={"Authorization": f"token {token}"}, base_url=url, timeout=60) as http:
        http.post(f"hub/api/users/{name}").raise_for_status()
        made = http.post(f"hub/api/users/{name}/tokens", json={"note": "bench"})
        made.raise_for_status()
    return Person(url, name, made.json()["token"])
