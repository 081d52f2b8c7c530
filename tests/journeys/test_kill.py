"""kill -9 of each process while a cluster computes: it comes back alone, and nothing that people run is lost."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from running import Facility, Kernel, Session, started, wait_for

pytestmark = pytest.mark.journey

SIBLINGS = ["hub", "proxy", "service", "gateway", "gateway-proxy", "issuer", "launcher"]

CLUSTER = """
from specola_lab import scaleout
cluster = scaleout.cluster(workers=2)
client = cluster.get_client()
client.wait_for_workers(2, timeout=240)
import os
print(sorted(client.run(os.getpid).values()))
"""

COMPUTE = """
import time
def work(n):
    time.sleep(0.25)
    return n * n
futures = client.map(work, range(40), pure=False)
print(sum(client.gather(futures)))
print(sorted(client.run(os.getpid).values()))
"""


@pytest.fixture(scope="module")
def facility() -> Iterator[Facility]:
    """A facility of its own: it is hurt here."""
    with started() as running:
        yield running


@pytest.fixture(scope="module")
def anna(facility: Facility) -> Session:
    session = facility.login("anna")
    session.start_server()
    return session


@pytest.fixture(scope="module")
def kernel(anna: Session) -> Kernel:
    return anna.kernel()


@pytest.fixture(scope="module")
def workers(kernel: Kernel) -> str:
    return kernel.run(CLUSTER).strip().splitlines()[-1]


def record(process: str, seconds: float) -> None:
    """Keep the seconds that a come-back took, for the docs."""
    place = Path("artefacts/kill.json")
    place.parent.mkdir(exist_ok=True)
    known = json.loads(place.read_text()) if place.exists() else {}
    place.write_text(json.dumps(known | {process: round(seconds, 1)}, indent=1))


def server_pid(kernel: Kernel) -> str:
    return kernel.run("print(os.getppid())").strip()


@pytest.mark.needs_root
@pytest.mark.parametrize("process", SIBLINGS)
def test_it_comes_back_alone_while_a_cluster_computes(
    facility: Facility, anna: Session, kernel: Kernel, workers: str, process: str
) -> None:
    """The result is exact, the workers are the same processes, nobody is logged out."""
    server = server_pid(kernel)
    message = kernel.send(COMPUTE)
    time.sleep(1)
    others = {name: one["pid"] for name, one in facility.status()["processes"].items() if name != process}
    seconds = facility.kill(process)
    record(process, seconds)
    if process == "proxy":
        # the browser's websocket went through the proxy: Lab reconnects, and so does this test
        wait_for(anna.server_ready, 120, "the route of the server")
        wait_for(lambda: anna.lab("GET", "api/status").status_code == 200, 120, "the server through the proxy")
        kernel.connect()
        output = wait_for(lambda: kernel.run("print(sum(f.result() for f in futures)); " + last_line()), 240)
    else:
        output = kernel.finish(message)
    assert output.strip().splitlines()[-2:] == [str(sum(n * n for n in range(40))), workers]
    assert server_pid(kernel) == server
    after = {name: one["pid"] for name, one in facility.status()["processes"].items() if name != process}
    assert after == others, "only the killed process may change"
    wait_for(lambda: anna.api("GET", "me").status_code == 200, 120, "the service through the proxy")
    assert anna.http.get(f"{facility.url}services/specola/").url.path == "/services/specola/"


def last_line() -> str:
    return COMPUTE.strip().splitlines()[-1]


@pytest.mark.needs_root
def test_servers_answer_their_owners_while_the_hub_is_away(facility: Facility, anna: Session) -> None:
    """Longer than a server believes the hub's word about a token; a token that it has not seen waits for the hub."""
    assert anna.lab("GET", "api/status").status_code == 200
    os.kill(facility.status()["supervisor"], signal.SIGSTOP)
    try:
        os.kill(facility.pid("hub"), signal.SIGKILL)
        time.sleep(7)
        assert anna.lab("GET", "api/status").status_code == 200
        unknown = {"Authorization": "token x"}
        assert httpx.get(f"{facility.url}user/anna/api/status", headers=unknown, timeout=120).status_code == 500
    finally:
        os.kill(facility.status()["supervisor"], signal.SIGCONT)
    wait_for(lambda: facility.status()["processes"]["hub"]["answers"], 180, "the hub")


@pytest.mark.needs_root
def test_the_supervisor_comes_back_by_the_next_up(
    facility: Facility, anna: Session, kernel: Kernel, workers: str
) -> None:
    """Old siblings are ended by pid and start time; servers, schedulers and workers live on."""
    server = server_pid(kernel)
    old = {name: one["pid"] for name, one in facility.status()["processes"].items()}
    os.kill(facility.status()["supervisor"], 9)
    wait_for(lambda: facility.status()["supervisor"] is None, 60)
    begin = time.monotonic()
    facility.up()
    record("supervisor", time.monotonic() - begin)
    new = {name: one["pid"] for name, one in facility.status()["processes"].items()}
    assert set(new.values()).isdisjoint(old.values())
    for pid in old.values():
        assert not alive(pid), "an old sibling is left"
    wait_for(lambda: anna.lab("GET", "api/status").status_code == 200, 120)
    kernel.connect()
    assert server_pid(kernel) == server
    output = kernel.run(COMPUTE)
    assert output.strip().splitlines() == [str(sum(n * n for n in range(40))), workers]


@pytest.mark.needs_root
def test_a_killed_worker_is_replaced(kernel: Kernel, workers: str) -> None:
    kernel.run("victim = sorted(client.run(os.getpid).values())[0]; os.kill(victim, 9)")
    look = "print(*client.run(os.getpid, on_error='ignore').values(), end=f' {victim}')"

    def replaced() -> bool:
        *pids, victim = kernel.run(look).split()
        return len(pids) == 2 and victim not in pids

    wait_for(replaced, 180, "two workers without the killed one")
    assert kernel.run("print(client.submit(sum, [1, 2]).result())").strip() == "3"


@pytest.mark.needs_root
def test_restart_keeps_servers_and_stop_ends_all(facility: Facility, anna: Session, kernel: Kernel) -> None:
    server = server_pid(kernel)
    facility.specola("restart", "--state", str(facility.state))
    wait_for(lambda: anna.lab("GET", "api/status").status_code == 200, 120)
    kernel.connect()
    assert server_pid(kernel) == server
    pids = [int(pid) for pid in kernel.run("print(*client.run(os.getpid).values(), os.getpid(), os.getppid())").split()]
    siblings = [one["pid"] for one in facility.status()["processes"].values()]
    facility.stop()
    assert not [pid for pid in pids + siblings if alive(pid)], "stop leaves nothing"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
