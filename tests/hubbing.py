"""A plain JupyterHub with our spawner, its proxy and a launcher: what the spawner's and the isolation tests drive."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from launching import Place, launcher
from running import free_port, wait_for
from specola.facility.processes import node, proxy_program

CONFIG = Path(__file__).parent / "spawner" / "plain_hub.py"


@dataclass
class Hub:
    """A hub that runs, asked with the token of a service that may do everything."""

    place: Place
    settings: dict[str, Any]
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return str(self.settings["url"])

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": "token test-token-of-the-test"}
        return httpx.request(method, f"{self.settings['hub']}/hub/api/{path}", headers=headers, timeout=120, **more)

    def start_proxy(self) -> None:
        options = {"port": self.url.rpartition(":")[2], "api-port": self.settings["proxy_api"].rpartition(":")[2]}
        argv = [str(node()), str(proxy_program()), "--ip=127.0.0.1", f"--default-target={self.settings['hub']}"]
        self.children["proxy"] = subprocess.Popen(
            [*argv, *(f"--{name}={value}" for name, value in options.items())],
            env=os.environ | {"CONFIGPROXY_AUTH_TOKEN": "proxy"},
            stdout=subprocess.DEVNULL,
        )
        wait_for(lambda: listens(self.settings["proxy_api"]), 120, "the proxy")

    def start_hub(self) -> None:
        log = (self.place.top / "hub.log").open("ab")
        with log:
            self.children["hub"] = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "-f", str(CONFIG)],
                env=os.environ | {"HUB_FOR_TEST": json.dumps(self.settings), "CONFIGPROXY_X": "x", "SUPERVISOR_X": "x"},
                cwd=self.place.top,
                stdout=log,
                stderr=log,
            )
        wait_for(self.answers, 180, "the hub")

    def answers(self) -> bool:
        assert self.children["hub"].poll() is None, self.log
        try:
            return self.ask("GET", "users").is_success
        except httpx.TransportError:
            return False

    @property
    def log(self) -> str:
        return (self.place.top / "hub.log").read_text()

    def server(self, person: str, name: str = "") -> dict[str, Any]:
        return dict(self.ask("GET", f"users/{person}").json()["servers"].get(name) or {})

    def spawn(self, person: str, name: str = "") -> float:
        begin = time.monotonic()
        self.ask("POST", f"users/{person}")
        answer = self.ask("POST", f"users/{person}/servers/{name}")
        assert answer.status_code in {201, 202}, answer.text
        wait_for(lambda: self.server(person, name).get("ready"), 180, f"server of {person}: {self.log[-3000:]}")
        return time.monotonic() - begin

    def jupyter(self, method: str, person: str, path: str, name: str = "", **more: Any) -> httpx.Response:
        headers = {"Authorization": "token test-token-of-the-test"}
        base = f"{self.url}/user/{person}/{name + '/' if name else ''}api/{path}"
        return httpx.request(method, base, headers=headers, timeout=120, **more)

    def stop_server(self, person: str, name: str = "") -> None:
        assert self.ask("DELETE", f"users/{person}/servers/{name}").status_code in {202, 204}
        wait_for(lambda: not self.server(person, name), 120, f"the end of the server of {person}")

    def kill_hub(self) -> None:
        self.children["hub"].kill()
        self.children["hub"].wait()


def listens(url: str) -> bool:
    """Whether anybody takes connections at an address."""
    place = urlsplit(url)
    with socket.socket() as one:
        return one.connect_ex((str(place.hostname), int(place.port or 0))) == 0


@contextlib.contextmanager
def hub(facility: dict[str, Any] | None = None, service: str = "") -> Iterator[Hub]:
    """Proxy, hub and launcher, all removed at the end."""
    with launcher() as place:
        url, inner, api = (f"http://127.0.0.1:{free_port()}" for _ in range(3))
        settings = {
            "state": str(place.layout.state),
            "top": str(place.top),
            "url": url,
            "hub": inner,
            "proxy_api": api,
            "env": sys.prefix,
            "facility": facility or {},
            "service": service,
        }
        running = Hub(place, settings)
        try:
            running.start_proxy()
            running.start_hub()
            yield running
        finally:
            for child in running.children.values():
                child.terminate()
                child.wait(120)
