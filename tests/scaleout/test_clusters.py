"""A real dask-gateway, its client proxy and the launcher: clusters as a stock client and the service use them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from dask_gateway import Gateway, GatewayCluster
from distributed import Client, Event
from running import wait_for
from specola.scaleout.adapters.for_service import CLUSTERS, PERSON

from scaleout import work
from scaleout.rig import Rig, direct


@pytest.fixture(scope="module")
def anna(rig: Rig) -> Iterator[Gateway]:
    with rig.gateway(rig.hub.token("anna", "physics")) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def cluster(rig: Rig, anna: Gateway) -> Iterator[GatewayCluster]:
    """A cluster of two workers that was asked for with its workers."""
    with anna.new_cluster(workers=2, shutdown_on_close=True) as made:
        rig.wait_running(made.name, 2)
        yield made


@pytest.fixture(scope="module")
def client(anna: Gateway, cluster: GatewayCluster) -> Iterator[Client]:
    with direct(anna, cluster.name) as made:
        yield made


def test_computes_through_both_ways_in(cluster: GatewayCluster, client: Client) -> None:
    """A stock client goes through the client proxy, ours straight to the scheduler; both get the same cluster."""
    with cluster.get_client(set_as_default=False) as stock:
        assert stock.submit(lambda x: x + 1, 41).result(120) == 42
        assert stock.scheduler.address.startswith("gateway://")
    assert sum(client.gather(client.map(lambda x: x * x, range(10)))) == 285
    assert client.scheduler.address.startswith("tls://127.0.0.1:")


def test_runs_as_its_owner_with_nothing_of_the_gateway(rig: Rig, client: Client) -> None:
    """What runs on the scheduler or a worker has the owner's account, home and environment."""
    entry = Path(client.run_on_scheduler(work.value_of, "HOME"))
    assert entry.parent == rig.runtime.homes
    assert entry.name.startswith("anna")  # another facility of this machine may have the plain name
    owner = entry.stat().st_uid
    assert client.run_on_scheduler(os.getuid) == owner
    assert set(client.run(os.getuid).values()) == {owner}
    if os.geteuid() == 0:
        assert owner != 0
        assert client.run_on_scheduler(os.getgroups) != [0]
    environment = client.run_on_scheduler(work.environment)
    assert "SPECOLA_STATE" not in environment
    secrets = [path.read_text().strip() for path in rig.layout.secrets.iterdir()]
    for value in environment.values():
        assert value not in secrets
        assert "PRIVATE KEY" not in value


def test_secrets_of_a_cluster_are_files_of_the_owner_alone(client: Client) -> None:
    """Certificate, key and token are 0600; no process list and no environment holds them."""
    found = client.run_on_scheduler(work.own_files)
    assert {Path(name).name for name in found} >= {"dask.crt", "dask.pem", "token"}
    assert {mode & 0o077 for mode in found.values()} == {0}
    token = client.run_on_scheduler(work.token)
    for process in psutil.process_iter():
        try:
            assert token not in " ".join(process.cmdline())
        except psutil.Error:
            continue


def test_nothing_answers_http_on_a_port_but_the_api_that_asks_for_a_token(
    rig: Rig, cluster: GatewayCluster, client: Client
) -> None:
    """No dashboard of a scheduler or worker listens on TCP; every port is loopback."""
    assert client.submit(os.getpid).result(120)
    ports = {key: listening(pid) for key, pid in rig.pids(cluster.name).items()}
    assert len(ports) == 3
    for key, addresses in ports.items():
        assert {ip for ip, _ in addresses} == {"127.0.0.1"}
        open_to_http = [port for _, port in addresses if speaks_http(port)]
        if key.endswith(".scheduler"):
            assert len(addresses) == 2
            assert len(open_to_http) == 1
            answer = httpx.post(
                f"http://127.0.0.1:{open_to_http[0]}/api/comm", json={"op": "scale", "count": 9}, timeout=60
            )
            assert answer.status_code == 403
            assert httpx.get(f"http://127.0.0.1:{open_to_http[0]}/status", timeout=60).status_code == 404
        else:
            assert len(addresses) == 1
            assert open_to_http == []


def listening(pid: int) -> set[tuple[str, int]]:
    connections = psutil.Process(pid).net_connections("tcp")
    return {(c.laddr.ip, c.laddr.port) for c in connections if c.status == psutil.CONN_LISTEN}


def speaks_http(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/", timeout=60)
    except httpx.HTTPError:
        return False
    return True


def test_the_socket_gives_dashboard_and_live_workers(client: Client) -> None:
    """The owner finds dashboard, metrics and our own numbers on the scheduler's socket."""
    assert sum(client.gather(client.map(lambda x: x, range(7), pure=False))) == 21
    socket = Path(client.run_on_scheduler(work.value_of, "SPECOLA_HTTP_SOCKET"))
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://scheduler", timeout=60) as http:
        assert "bokeh" in http.get("/status").text.lower()
        assert "dask_scheduler_workers" in http.get("/metrics").text
        assert http.get("/proxy/1/localhost/").status_code == 404
        numbers = http.get("/specola/workers").json()
        wait_for(lambda: http.get("/specola/workers").json()["totals"]["memory"] > 0, 60, "memory of the workers")
    assert numbers["totals"]["workers"] == 2
    assert numbers["tasks"]["processed"] >= 7
    assert {worker["memory_limit"] for worker in numbers["workers"]} == {2**29}
    owner = client.run_on_scheduler(os.getuid)
    assert socket.stat().st_uid == owner
    assert socket.stat().st_mode & 0o077 == 0
    assert socket.parent.stat().st_mode & 0o077 == 0
    for place in client.run(work.value_of, "SPECOLA_HTTP_SOCKET").values():
        with httpx.Client(transport=httpx.HTTPTransport(uds=place), timeout=60) as http:
            assert http.get("http://worker/health").text == "ok"


def test_another_person_cannot_see_or_use_it(rig: Rig, cluster: GatewayCluster) -> None:
    """Other people's clusters do not exist: not in lists, not by name, not with scale, adapt or stop."""
    marco = rig.hub.token("marco", "physics")
    headers = {"Authorization": f"jupyterhub {marco}"}
    assert httpx.get(f"{rig.address}/api/v1/clusters/", headers=headers, timeout=60).json() == {}
    url = f"{rig.address}/api/v1/clusters/{cluster.name}"
    answers = [
        httpx.get(url, headers=headers, timeout=60),
        httpx.post(f"{url}/scale", json={"count": 0}, headers=headers, timeout=60),
        httpx.post(f"{url}/adapt", json={"minimum": 0, "maximum": 0}, headers=headers, timeout=60),
        httpx.delete(url, headers=headers, timeout=60),
        httpx.get(f"{rig.address}/api/v1/clusters/{'0' * 32}", headers=headers, timeout=60),
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert rig.cluster(cluster.name)["status"] == "running"


def test_nobody_connects_without_the_clusters_certificate(rig: Rig, anna: Gateway, cluster: GatewayCluster) -> None:
    """A scheduler's port is open to everybody on the machine, its TLS to the owner's certificate only."""
    with rig.gateway(rig.hub.token("paola", "physics")) as gateway, gateway.new_cluster() as other:
        address = anna.sync(anna._cluster_report, cluster.name).options["specola"]["address"]
        with pytest.raises(OSError, match=r"Timed out|certificate|CERTIFICATE"):
            Client(address, security=other.security, timeout=4, set_as_default=False)
    with pytest.raises(OSError, match=r"Connection|Timed out"):
        Client(address.replace("tls", "tcp"), timeout=4, set_as_default=False)


@pytest.mark.parametrize("authorization", ["", "jupyterhub wrong", "token", "Basic YW5uYTphbm5h"])
def test_nobody_gets_in_without_a_token_of_the_hub(rig: Rig, authorization: str) -> None:
    headers = {"Authorization": authorization}
    assert httpx.get(f"{rig.address}/api/v1/clusters/", headers=headers, timeout=60).status_code == 401
    assert httpx.get(f"{rig.address}{CLUSTERS}", headers=headers, timeout=60).status_code in {401, 403}


def test_a_persons_token_is_not_the_services(rig: Rig) -> None:
    """Everybody's clusters are the API service's to see."""
    headers = {"Authorization": f"token {rig.hub.token('anna', 'physics')}"}
    assert httpx.get(f"{rig.address}{CLUSTERS}", headers=headers, timeout=60).status_code == 403
    assert httpx.delete(f"{rig.address}{PERSON.format(person='anna')}", headers=headers, timeout=60).status_code == 403


def test_budget_is_refused_in_words_and_holds_over_all_clusters(rig: Rig) -> None:
    """Group physics allows six workers: five here leave one there, and an adaptive cluster holds its maximum."""
    first = create(rig, "bruno", "physics", workers=0)
    second = create(rig, "bruno", "physics", workers=0)
    for name in (first, second):
        rig.wait_status(name, "running")
    too_many = create_answer(rig, "bruno", "physics", workers=0)
    assert too_many.status_code == 422
    assert "2 clusters" in too_many.json()["error"]
    assert scale(rig, "bruno", first, 7).json()["error"].startswith("Group physics allows 6 workers for one person")
    assert adapt(rig, "bruno", first, 0, 5).status_code == 200
    refused = scale(rig, "bruno", second, 2)
    assert refused.status_code == 422
    assert "5 of them belong to your other clusters, so this one can have 1" in refused.json()["error"]
    assert adapt(rig, "bruno", second, 0, 2).status_code == 422
    assert adapt(rig, "bruno", second, 0, "many").status_code == 422
    assert rig.as_service("DELETE", PERSON.format(person="bruno")).json()["ended"] == [first, second]
    for name in (first, second):
        rig.wait_status(name, "stopped")


def test_budget_holds_when_many_ask_at_once(rig: Rig) -> None:
    """Twenty requests at the same moment make two clusters."""

    async def rush() -> list[int]:
        url = f"{rig.address}/api/v1/clusters/"
        headers = {"Authorization": f"jupyterhub {rig.hub.token('carla', 'physics')}"}
        async with httpx.AsyncClient(headers=headers, timeout=120) as http:
            answers = await asyncio.gather(*(http.post(url, json={}) for _ in range(20)))
        return [answer.status_code for answer in answers]

    codes = asyncio.run(rush())
    assert codes.count(201) == 2
    assert codes.count(422) == 18
    for name in rig.as_service("DELETE", PERSON.format(person="carla")).json()["ended"]:
        rig.wait_status(name, "stopped")


def test_a_scheduler_that_lies_about_its_count_gets_no_more(rig: Rig) -> None:
    """The scheduler runs the user's code, so the gateway counts for itself."""
    with rig.gateway(rig.hub.token("dario", "students")) as gateway, gateway.new_cluster() as made:
        with direct(gateway, made.name) as client:
            client.run_on_scheduler(work.want_fifty)
            rig.wait_running(made.name, 1)
        assert rig.cluster(made.name)["workers"] == {"wanted": 1, "running": 1, "starting": 0}


def test_adapts_to_the_work(rig: Rig) -> None:
    """Workers come with the work and go after it."""
    with rig.gateway(rig.hub.token("elisa", "physics")) as gateway, gateway.new_cluster() as made:
        made.adapt(minimum=0, maximum=2)
        wait_for(lambda: rig.cluster(made.name)["adaptive"] == {"minimum": 0, "maximum": 2}, 60, "the range")
        with direct(gateway, made.name) as client:
            seen = Event("workers-were-seen", client=client)
            futures = client.map(work.after("workers-were-seen"), range(40))
            wait_for(lambda: 1 <= rig.cluster(made.name)["workers"]["running"] <= 2, 180, "workers for the work")
            seen.set()
            assert sum(client.gather(futures)) == 780
            del futures
        rig.wait_running(made.name, 0)


def test_options_are_checked_in_words(rig: Rig) -> None:
    """Unknown sites and environments are named as such, with what there is."""
    for options, words in [
        ({"site": "mars"}, "There is no such site. There is: here."),
        ({"environment": "cvmfs"}, "There is no such environment. There is: default."),
        ({"workers": "many"}, "Option workers must be a number."),
        ({"gpu": 1}, "There is no such option."),
    ]:
        answer = create_answer(rig, "anna", "physics", **options)
        assert answer.status_code == 422
        assert answer.json()["error"].startswith(words)


def test_the_same_key_gives_the_same_cluster(rig: Rig) -> None:
    """A request that was sent twice is done once."""
    first = create(rig, "fabio", "physics", request="k1")
    assert create(rig, "fabio", "physics", request="k1") == first
    rig.wait_status(first, "running")
    rig.as_service("DELETE", f"/api/v1/clusters/{first}", "fabio")
    rig.wait_status(first, "stopped")
    rig.as_service("DELETE", f"/api/v1/clusters/{first}", "fabio")
    assert all(c["name"] != first for c in rig.as_service("GET", CLUSTERS).json()["items"])


def create_answer(rig: Rig, person: str, group: str, **options: Any) -> httpx.Response:
    return rig.as_service("POST", "/api/v1/clusters/", person, group, json={"cluster_options": options})


def create(rig: Rig, person: str, group: str, **options: Any) -> str:
    answer = create_answer(rig, person, group, **options)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["name"])


def scale(rig: Rig, person: str, name: str, count: int) -> httpx.Response:
    return rig.as_service("POST", f"/api/v1/clusters/{name}/scale", person, "physics", json={"count": count})


def adapt(rig: Rig, person: str, name: str, minimum: int, maximum: object) -> httpx.Response:
    body = {"minimum": minimum, "maximum": maximum, "active": True}
    return rig.as_service("POST", f"/api/v1/clusters/{name}/adapt", person, "physics", json=body)
