"""A real launcher, gateway and client proxy with a stand-in for the hub, as tests drive and kill them."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography.fernet import Fernet
from dask_gateway import Gateway
from dask_gateway.auth import JupyterHubAuth
from distributed import Client
from running import free_port, wait_for
from specola.core.accounts import Entry, Ledger
from specola.core.layout import Layout
from specola.core.people import remove_account
from specola.facility import runtime as facility_runtime
from specola.facility.runtime import Addresses, Ports, Runtime, addresses_file, load_runtime
from specola.scaleout.adapters.gateway_auth import in_headers
from specola.scaleout.adapters.proxy_command import TOKEN_VARIABLE, proxy_argv

GATEWAY_CONFIG = Path(facility_runtime.__file__).with_name("gateway_config.py")
ACCESS = "access:services!service=dask-gateway"
FACILITY = {
    "groups": {"physics": {"scaleout": {"max_workers": 6}}, "students": {"scaleout": {"max_workers": 1}}},
    "scaleout": {"idle_timeout": 0, "worker_memory_gib": 0.5, "max_clusters": 2},
}


# upstream's __del__ fails on a client that was closed; every client here is closed
del Gateway.__del__


class StandInHub(ThreadingHTTPServer):
    """Answers `/hub/api/user` for the tokens it was told."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Answers)
        self.tokens: dict[str, dict[str, Any]] = {}
        self.asked = 0
        self.broken = False
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def token(self, person: str, *groups: str, scopes: tuple[str, ...] = (ACCESS,), kind: str = "user") -> str:
        made = secrets.token_hex(8)
        self.tokens[made] = {"name": person, "kind": kind, "groups": list(groups), "scopes": list(scopes)}
        return made


class Answers(BaseHTTPRequestHandler):
    """The one answer of the stand-in."""

    def do_GET(self) -> None:
        hub: StandInHub = self.server  # type: ignore[assignment]
        hub.asked += 1
        owner = hub.tokens.get(self.headers["Authorization"].partition(" ")[2])
        self.send_response(500 if hub.broken else 200 if owner and self.path == "/hub/api/user" else 403)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(owner).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@dataclass
class Rig:
    """One small facility: only what a cluster needs."""

    runtime: Runtime
    hub: StandInHub
    base: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def layout(self) -> Layout:
        return self.runtime.layout

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.runtime.ports.gateway}"

    @property
    def public(self) -> str:
        return f"http://127.0.0.1:{self.runtime.ports.gateway_proxy}/services/dask-gateway"

    def start(self, name: str) -> None:
        """Start `launcher`, `gateway` or `gateway-proxy`."""
        if name == "launcher":
            leave_plain_names(self.base / "ledger.json")
        argv = {
            "launcher": [sys.executable, "-m", "specola.launcher", "--ledger", str(self.base / "ledger.json")],
            "gateway": [sys.executable, "-m", "dask_gateway_server", "-f", str(GATEWAY_CONFIG)],
            "gateway-proxy": proxy_argv(self.runtime),
        }[name]
        env = os.environ | {"SPECOLA_STATE": str(self.layout.state)}
        env[TOKEN_VARIABLE] = self.layout.secret("gateway-proxy")
        with (self.base / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(argv, env=env, stdout=log, stderr=log, start_new_session=True)

    def wait(self, name: str) -> None:
        if name == "launcher":
            wait_for(self.layout.launcher_socket.exists, 120, "the launcher's socket")
        else:
            url = self.address if name == "gateway" else self.public
            wait_for(lambda: answers(f"{url}/api/health"), 180, f"{name}: {self.log(name)}")

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def log(self, name: str) -> str:
        return (self.base / f"{name}.log").read_text()[-3000:]

    def gateway(self, token: str, *, public: bool = False) -> Gateway:
        """A stock client of one person."""
        address = self.public if public else self.address
        proxy = f"gateway://127.0.0.1:{self.runtime.ports.gateway_tcp}"
        return Gateway(address, proxy_address=proxy, auth=JupyterHubAuth(token))

    def as_service(self, method: str, path: str, person: str = "", *groups: str, **more: Any) -> httpx.Response:
        """What the API service does on behalf of a person."""
        headers = {"Authorization": f"token {self.layout.secret('service')}"}
        headers |= in_headers(person, groups) if person else {}
        return httpx.request(method, f"{self.address}{path}", headers=headers, timeout=120, **more)

    def cluster(self, name: str) -> dict[str, Any]:
        items = self.as_service("GET", "/api/specola/clusters").json()["items"]
        return next(item for item in items if item["name"] == name)

    def wait_status(self, name: str, status: str, seconds: float = 180) -> dict[str, Any]:
        self._wait_cluster(name, seconds, lambda cluster: cluster["status"] == status)
        return self.cluster(name)

    def wait_running(self, name: str, workers: int, seconds: float = 180) -> None:
        self._wait_cluster(name, seconds, lambda cluster: cluster["workers"]["running"] == workers)

    def _wait_cluster(self, name: str, seconds: float, good: Callable[[dict[str, Any]], bool]) -> None:
        try:
            wait_for(lambda: good(self.cluster(name)), seconds)
        except AssertionError:
            raise AssertionError(f"{self.cluster(name)}\n{self.log('gateway')}") from None

    def pids(self, cluster: str) -> dict[str, int]:
        """Key → pid of a cluster's processes, as the launcher recorded them."""
        records = (self.layout.run / "programs").glob(f"cluster.{cluster}.*")
        return {path.name: json.loads(path.read_text())["pid"] for path in records}


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def direct(gateway: Gateway, name: str) -> Client:
    """A client that connects to the scheduler itself, past every proxy."""
    report = gateway.sync(gateway._cluster_report, name)
    return Client(report.options["specola"]["address"], security=report.security, set_as_default=False, timeout=120)


def make(facility: dict[str, Any], base: Path, hub: StandInHub, env: str) -> Runtime:
    """Write the state directory of a facility."""
    layout = Layout(base / "state")
    for path in (layout.state, layout.secrets, layout.logs):
        path.mkdir(mode=0o700)
    for name in ("service", "gateway", "gateway-proxy"):
        (layout.secrets / name).write_text(secrets.token_hex(32))
    (layout.secrets / "gateway-db").write_bytes(Fernet.generate_key())
    layout.facility_file.write_text(yaml.safe_dump(facility))
    ports = {name: free_port() for name in Ports.model_fields} | {"hub": hub.server_port}
    addresses = Addresses(
        ports=Ports(**ports), public_url="http://127.0.0.1/", env=Path(env), separate_accounts=os.geteuid() == 0
    )
    addresses_file(layout).write_text(addresses.model_dump_json())
    return load_runtime(layout)


@contextlib.contextmanager
def started(facility: dict[str, Any] | None = None, env: str = sys.prefix) -> Iterator[Rig]:
    """A rig that is up; everything of it is gone afterwards."""
    base = Path(tempfile.mkdtemp(prefix="scaleout-"))
    base.chmod(0o711)
    hub = StandInHub()
    rig = Rig(make(facility or FACILITY, base, hub, env), hub, base)
    try:
        for name in ("launcher", "gateway", "gateway-proxy"):
            rig.start(name)
            rig.wait(name)
        yield rig
    finally:
        end(rig)
        hub.shutdown()
        hub.server_close()


def leave_plain_names(path: Path) -> None:
    """Names and uids that no other test of this machine picks at the same moment: each has a ledger of its own."""
    if path.exists():
        return
    people = ("anna", "dario", "elisa", "marco", "marta", "paola")
    with Ledger(path).locked() as ledger:
        ledger.entries = [
            Entry("elsewhere", person, f"sp-{person}", uid, uid, "/nonexistent", intended="-", created="-")
            for uid, person in enumerate(people, 45000)
        ]
        ledger._write()


def end(rig: Rig) -> None:
    """End what runs and remove what was made."""
    for name in ("gateway-proxy", "gateway"):
        if name in rig.processes:
            rig.processes[name].terminate()
            rig.processes[name].wait(120)
    if "launcher" in rig.processes:
        with contextlib.suppress(OSError):
            ask(rig.layout.launcher_socket, verb="end_all", prefix="", grace=0)
        rig.processes["launcher"].send_signal(signal.SIGTERM)
        rig.processes["launcher"].wait(120)
    if os.geteuid() == 0:
        with Ledger(rig.base / "ledger.json").locked() as ledger:
            for entry in ledger.of_state(rig.layout.id):
                remove_account(entry)
        shutil.rmtree(Path("/run/specola") / rig.layout.id, ignore_errors=True)
    shutil.rmtree(rig.base, ignore_errors=True)


def ask(path: Path, **request: Any) -> Any:
    """One question to a launcher, without its client."""
    import socket

    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(json.dumps(request).encode() + b"\n")
        return json.loads(connection.makefile().readline())
