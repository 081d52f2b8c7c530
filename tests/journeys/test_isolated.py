"""What luca's account finds of anna's server, kernel and cluster on the same machine: nothing.

A probe that finds nothing is tried as anna too, so that an empty answer means a wall and not a wrong address.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from isolation.probes import tried_by
from running import Facility, Kernel, Session, wait_for
from specola.client.launcher import Account, Launcher

pytestmark = [pytest.mark.journey, pytest.mark.needs_root]


@dataclass
class Neighbours:
    """Anna, who computes, and luca, who is curious."""

    facility: Facility
    session: Session
    kernel: Kernel
    cluster: str
    anna: Account
    luca: Account

    def luca_tries(self, probe: str, *arguments: Any) -> Any:
        return tried_by(self.luca.uid, self.luca.gid, probe, *arguments)

    def anna_tries(self, probe: str, *arguments: Any) -> Any:
        return tried_by(self.anna.uid, self.anna.gid, probe, *arguments)

    def found(self, pattern: str) -> list[str]:
        """Files below anna's private directories, as root sees them."""
        return [str(path) for path in self.below() if path.match(pattern)]

    def below(self) -> list[Path]:
        """All of anna's private files; what vanishes meanwhile is no file of hers."""
        tops = (self.anna.home, self.anna.runtime)
        walked = [(Path(place), names + files) for top in tops for place, names, files in os.walk(top)]
        return [*tops, *(place / name for place, names in walked for name in names)]


@pytest.fixture(scope="module")
def neighbours(facility: Facility) -> Iterator[Neighbours]:
    anna = facility.login("anna")
    anna.start_server()
    cluster = anna.api("POST", "scaleout/clusters", json={"workers": 1}).json()["name"]

    def works() -> bool:
        return bool(anna.api("GET", f"scaleout/clusters/{cluster}").json()["workers"]["running"] == 1)

    wait_for(works, 180, "anna's cluster")
    launcher = Launcher(facility.run / "launcher.sock")
    accounts = [asyncio.run(launcher.account(name)) for name in ("anna", "luca")]
    yield Neighbours(facility, anna, anna.kernel(), cluster, *accounts)
    anna.api("DELETE", f"scaleout/clusters/{cluster}")


def test_the_home_and_its_secrets(neighbours: Neighbours) -> None:
    neighbours.kernel.run("open('secret.txt', 'w').write('mine')")
    for top in (str(neighbours.anna.home), str(neighbours.anna.runtime)):
        assert neighbours.anna_tries("reads_tree", top)
        assert neighbours.luca_tries("reads_tree", top) == []
        assert neighbours.luca_tries("writes_into", top) == []


def test_the_sockets_of_kernels_and_dashboards(neighbours: Neighbours) -> None:
    """A dashboard shows code and data of its owner; it has no port, and its socket opens for the owner alone."""
    wait_for(lambda: len(neighbours.found("kernel-*-ipc-*")) == 5, 120, "five channels")
    wait_for(lambda: len(neighbours.found("http.sock")) == 2, 120, "scheduler and worker")
    kernels, dashboards = neighbours.found("kernel-*-ipc-*"), neighbours.found("http.sock")
    assert neighbours.anna_tries("connects_unix", dashboards) == [f"connect {path}" for path in dashboards]
    assert neighbours.anna_tries("connects_unix", kernels)
    assert neighbours.luca_tries("connects_unix", [*kernels, *dashboards]) == []


def test_the_ports_of_the_scheduler_and_worker(neighbours: Neighbours) -> None:
    """They speak TLS and want the cluster's own certificate; whoever has none gets no byte, and runs nothing."""
    ports = neighbours.luca_tries("listeners", neighbours.anna.uid)
    assert len(ports) >= 3, "server, scheduler, worker"
    (certificate, key) = (min(neighbours.found(name)) for name in ("dask.crt", "dask.pem"))
    wait_for(lambda: len(neighbours.anna_tries("talks_tls", ports, certificate, key)) >= 2, 120, "both answer anna")
    assert neighbours.luca_tries("opens", certificate) == neighbours.luca_tries("opens", key) == []
    assert neighbours.luca_tries("talks_tls", ports) == []
    assert neighbours.luca_tries("talks_zmq", ports) == []


def test_the_server_and_the_dashboard_over_http(neighbours: Neighbours) -> None:
    ports = neighbours.luca_tries("listeners", neighbours.anna.uid)
    dashboard = f"/user/anna/specola/clusters/{neighbours.cluster}/dashboard/status"
    paths = ("/", "/user/anna/lab", "/user/anna/api/contents", "/user/anna/files/secret.txt", "/metrics", dashboard)
    bases = [*(f"http://127.0.0.1:{port}" for port in ports), neighbours.facility.url.rstrip("/")]
    assert (
        neighbours.luca_tries(
            "gets", [base + path for base in bases for path in paths if base + path != bases[-1] + "/"]
        )
        == []
    )
    assert neighbours.session.lab("GET", dashboard.removeprefix("/user/anna/")).is_success
    luca = neighbours.facility.login("luca")
    url = neighbours.facility.url.rstrip("/") + dashboard
    assert httpx.get(url, headers={"Authorization": f"token {luca.token}"}, timeout=120).status_code in {302, 403}


def test_the_state_of_the_gateway(neighbours: Neighbours) -> None:
    """It holds the keys of everybody's clusters."""
    state = neighbours.facility.state
    places = [state, *(state / name for name in ("gateway", "secrets", "hub", "issuer", "specola.sqlite"))]
    assert all(path.exists() for path in places)
    kept = [*places, *(state / "gateway").iterdir()]
    assert [neighbours.luca_tries("opens", str(path)) for path in kept] == [[]] * len(kept)
    assert neighbours.luca_tries("writes_into", str(state / "gateway")) == []
    gateway = f"{neighbours.facility.url}services/dask-gateway/api/v1/clusters/"
    assert neighbours.luca_tries("gets", [gateway, gateway + neighbours.cluster]) == []
    luca = {"Authorization": f"token {neighbours.facility.login('luca').token}"}
    assert neighbours.cluster not in httpx.get(gateway, headers=luca, timeout=120).json()
    assert httpx.get(gateway + neighbours.cluster, headers=luca, timeout=120).status_code == 404
    anna = {"Authorization": f"token {neighbours.session.token}"}
    assert neighbours.cluster in httpx.get(gateway, headers=anna, timeout=120).json()


def test_the_processes(neighbours: Neighbours) -> None:
    """Server, kernel, scheduler and worker."""
    records = [json.loads(path.read_text()) for path in (neighbours.facility.run / "programs").glob("[!.]*")]
    pids = [record["pid"] for record in records if record["uid"] == neighbours.anna.uid]
    pids.append(int(neighbours.kernel.run("import os; print(os.getpid())")))
    assert len(pids) >= 4
    assert len(neighbours.anna_tries("reads_process", pids)) >= len(pids)
    assert neighbours.luca_tries("reads_process", pids) == []
    assert neighbours.luca_tries("signals", pids) == []
    assert neighbours.session.lab("GET", "api/status").is_success


def test_the_debugger_is_off(neighbours: Neighbours) -> None:
    """debugpy would listen on loopback and ask nobody who connects."""
    said = neighbours.kernel.run("import ipykernel.debugger as d; print(d._is_debugpy_available)")
    assert said.strip() == "False"


def test_nothing_of_anna_is_owned_by_others(neighbours: Neighbours) -> None:
    """A directory of hers that belonged to somebody else could be opened by them."""
    owners = set()
    for path in neighbours.below():
        with contextlib.suppress(FileNotFoundError):
            owners.add(path.lstat().st_uid)
    assert owners == {neighbours.anna.uid}
