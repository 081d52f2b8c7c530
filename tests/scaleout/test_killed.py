"""`kill -9` of each part while a cluster computes, and what is left when something of it ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import psutil
import pytest
from dask_gateway import Gateway
from distributed import Client, Future
from running import wait_for

from scaleout import work
from scaleout.rig import FACILITY, Rig, direct, started

TASKS = 30
PACE = 0.3


@pytest.fixture(scope="module")
def broken(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A rig whose parts are killed; each test leaves them running again."""
    del request
    with started() as rig:
        yield rig


@pytest.fixture(scope="module")
def computing(broken: Rig) -> Iterator[tuple[Gateway, str, Client]]:
    """Two workers and a client that is connected to the scheduler itself."""
    with broken.gateway(broken.hub.token("anna", "physics")) as gateway:
        made = gateway.new_cluster(workers=2, shutdown_on_close=False)
        broken.wait_running(made.name, 2)
        with direct(gateway, made.name) as client:
            yield gateway, made.name, client
        made.close()


def begin(client: Client) -> list[Future]:
    """Work for some seconds, begun."""
    futures: list[Future] = client.map(work.slow(PACE), range(TASKS), pure=False)
    wait_for(lambda: any(future.done() for future in futures), 120, "the first result")
    return futures


def check_exact(client: Client, futures: list[Future]) -> None:
    """Every result once, none lost."""
    assert client.gather(futures) == list(range(TASKS))


def test_gateway(broken: Rig, computing: tuple[Gateway, str, Client]) -> None:
    """The computation does not notice; the gateway finds the same processes again and scales them."""
    _, name, client = computing
    before, futures = broken.pids(name), begin(client)
    broken.kill("gateway")
    broken.start("gateway")
    start = time.monotonic()
    broken.wait("gateway")
    print(f"answers after {time.monotonic() - start:.1f} s")
    check_exact(client, futures)
    assert broken.pids(name) == before
    assert broken.cluster(name)["status"] == "running"
    broken.as_service("POST", f"/api/v1/clusters/{name}/scale", "anna", "physics", json={"count": 3})
    broken.wait_running(name, 3)
    assert before.items() <= broken.pids(name).items()
    broken.as_service("POST", f"/api/v1/clusters/{name}/scale", "anna", "physics", json={"count": 2})
    broken.wait_running(name, 2)
    wait_for(lambda: len(broken.pids(name)) == 3, 120, "the end of the third worker")
    # the client proxy outlived the gateway: a cluster made since must be reachable through it
    with broken.gateway(broken.hub.token("anna", "physics"), public=True) as stock, stock.new_cluster() as made:
        made.scale(1)
        with made.get_client(set_as_default=False) as through:
            assert through.submit(work.slow(0), 1).result(180) == 1


def test_client_proxy(broken: Rig, computing: tuple[Gateway, str, Client]) -> None:
    """A direct client keeps its futures; the new proxy has all routes again and stock clients get in."""
    gateway, name, client = computing
    futures = begin(client)
    broken.kill("gateway-proxy")
    broken.start("gateway-proxy")
    start = time.monotonic()
    broken.wait("gateway-proxy")
    print(f"answers after {time.monotonic() - start:.1f} s")
    check_exact(client, futures)
    with gateway.connect(name) as cluster, cluster.get_client(set_as_default=False) as stock:
        assert stock.submit(work.slow(0), 5).result(120) == 5


def test_launcher(broken: Rig, computing: tuple[Gateway, str, Client]) -> None:
    """While it is away nothing is taken for dead; when it is back it knows every process."""
    _, name, client = computing
    before, futures = broken.pids(name), begin(client)
    broken.kill("launcher")
    time.sleep(4)  # longer than the gateway's look at its schedulers
    assert broken.cluster(name)["status"] == "running"
    broken.start("launcher")
    check_exact(client, futures)
    assert broken.pids(name) == before


def test_worker(broken: Rig, computing: tuple[Gateway, str, Client]) -> None:
    """It is replaced, its tasks are done again, and the reason is said."""
    _, name, client = computing
    before, futures = broken.pids(name), begin(client)
    victim = next(key for key in before if ".worker." in key)
    start = time.monotonic()
    os.kill(before[victim], signal.SIGKILL)
    wait_for(lambda: victim not in broken.pids(name), 120, "the end of the worker's record")
    broken.wait_running(name, 2)
    print(f"replaced after {time.monotonic() - start:.1f} s")
    check_exact(client, futures)
    after = broken.pids(name)
    assert len(after) == 3
    assert victim not in after


def test_scheduler(broken: Rig) -> None:
    """Its futures are lost, as Dask is made; the cluster is said to have failed and nothing of it is left."""
    with broken.gateway(broken.hub.token("marta", "physics")) as gateway:
        made = gateway.new_cluster(workers=1, shutdown_on_close=False)
        broken.wait_running(made.name, 1)
        pids = broken.pids(made.name)
        os.kill(pids[f"cluster.{made.name}.scheduler"], signal.SIGKILL)
        failed = broken.wait_status(made.name, "failed")
        assert failed["reason"].startswith("The scheduler failed (signal 9)")
        wait_for(lambda: not broken.pids(made.name), 60, "the end of the records")
        wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids.values()), 60, "the end of the workers")
        made.close(shutdown=False)


def test_idle_cluster_stops_and_says_so() -> None:
    """A cluster without work ends after the facility's idle time, with the reason in words."""
    facility = {**FACILITY, "scaleout": {**FACILITY["scaleout"], "idle_timeout": 20}}
    with started(facility) as rig, rig.gateway(rig.hub.token("anna", "physics")) as gateway:
        made = gateway.new_cluster(workers=1, shutdown_on_close=False)
        wait_for(lambda: len(rig.pids(made.name)) == 2, 120, "scheduler and worker")
        pids = rig.pids(made.name)
        stopped = rig.wait_status(made.name, "stopped")
        assert stopped["reason"] == "No work for 20 s."
        wait_for(lambda: not rig.pids(made.name), 60, "the end of the records")
        wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids.values()), 60, "the end of the processes")
        made.close(shutdown=False)


def test_environment_without_dask_fails_with_its_last_words() -> None:
    """A scheduler that cannot start is a failed cluster whose reason is the end of its log."""
    with started(env="/nowhere") as rig:
        name = rig.as_service("POST", "/api/v1/clusters/", "anna", "physics", json={}).json()["name"]
        failed = rig.wait_status(name, "failed")
        assert "/nowhere/bin/dask" in failed["reason"]
