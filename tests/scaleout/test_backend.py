"""The back end inside this process, with a launcher that fails as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from cryptography.fernet import Fernet
from dask_gateway_server.routes import default_routes
from specola.client.launcher import Alive, Gone, LauncherError, Started
from specola.core.errors import Unavailable
from specola.scaleout.adapters.backend import LauncherBackend
from specola.scaleout.adapters.for_service import CLUSTERS, PERSON
from specola.scaleout.adapters.gateway import GatewayApi
from specola.scaleout.adapters.gateway_auth import GatewayAuthenticator, in_headers
from specola.scaleout.adapters.wire import REASON_HEADER
from specola.scaleout.model import GroupScaleout, LocalSite, ScaleoutSection
from traitlets.config import Config

# upstream reads plain string keys, and ignores this warning itself
pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web.NotAppKeyWarning")
Client = TestClient[web.Request, web.Application]
SITES = {"here": LocalSite(), "far": LocalSite(groups=("ml",))}


class FakeLauncher:
    """A launcher that remembers, and fails as it is told."""

    def __init__(self) -> None:
        self.running: dict[str, dict[str, Any]] = {}
        self.gone: dict[str, int | None] = {}
        self.logs: dict[str, str] = {}
        self.refuses = ""
        self.away = False

    async def start(self, key: str, person: str, argv: list[str], env: dict[str, str], **more: Any) -> Started:
        if self.refuses and self.refuses in key:
            raise LauncherError("no such program")
        self.running[key] = {"person": person, "argv": argv, "env": env, **more}
        return Started(len(self.running), person, Path("/home"), Path("/files"))

    async def poll(self, key: str) -> Alive | Gone:
        if self.away:
            raise Unavailable("The launcher does not answer")
        return Alive(1) if key in self.running else Gone(self.gone.get(key))

    async def end(self, key: str) -> Gone:
        self.running.pop(key, None)
        return Gone(0)

    async def end_all(self, prefix: str) -> list[str]:
        ended = [key for key in self.running if key.startswith(prefix)]
        for key in ended:
            del self.running[key]
        return ended

    async def log(self, key: str, tail_bytes: int) -> str:
        return self.logs.get(key, "")[-tail_bytes:]

    def die(self, key: str, code: int | None, log: str = "") -> None:
        del self.running[key]
        self.gone[key], self.logs[key] = code, log


class Gate:
    """The gateway's API as a person, a scheduler and the service use it."""

    def __init__(self, client: Client, backend: LauncherBackend, launcher: FakeLauncher) -> None:
        self.client = client
        self.backend = backend
        self.launcher = launcher

    async def ask(self, method: str, path: str, person: str = "anna", group: str = "physics", **more: Any) -> Any:
        headers = {"Authorization": "token the-service", **in_headers(person, [group])}
        answer = await self.client.request(method, path, headers=headers, **more)
        text = await answer.text()
        return SimpleNamespace(status=answer.status, headers=answer.headers, json=await answer.json() if text else None)

    async def create(self, **options: Any) -> str:
        answer = await self.ask("POST", "/api/v1/clusters/", json={"cluster_options": options})
        assert answer.status == 201, answer.json
        await self.until(lambda: f"cluster.{answer.json['name']}.scheduler" in self.launcher.running)
        return str(answer.json["name"])

    async def beat(self, name: str, **changes: Any) -> int:
        message = {
            "scheduler_address": "tls://127.0.0.1:5",
            "api_address": "http://127.0.0.1:6",
            "count": 0,
            "active_workers": [],
            "closing_workers": [],
            "closed_workers": [],
            **changes,
        }
        token = self.backend.db.get_cluster(name).token
        url = f"/api/v1/clusters/{name}/heartbeat"
        answer = await self.client.post(url, json=message, headers={"Authorization": f"token {token}"})
        return answer.status

    async def shown(self, name: str) -> dict[str, Any]:
        items = (await self.ask("GET", CLUSTERS)).json["items"]
        return next(item for item in items if item["name"] == name)

    async def until_status(self, name: str, status: str) -> dict[str, Any]:
        return await self.until_shown(name, "status", status)

    async def until_shown(self, name: str, what: str, value: str) -> dict[str, Any]:
        async with asyncio.timeout(60):
            while (shown := await self.shown(name))[what] != value:  # noqa: ASYNC110 - asked over HTTP
                await asyncio.sleep(0.02)
        return shown

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 - another task changes it
                await asyncio.sleep(0.02)

    def workers(self, name: str) -> list[str]:
        return [key.rpartition(".")[2] for key in self.launcher.running if f"{name}.worker" in key]


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    config = Config()
    backend = config.LauncherBackend
    backend.section = ScaleoutSection(sites=SITES, max_workers=4, idle_timeout=100)
    backend.group_table = {"ml": GroupScaleout(max_workers=6)}
    backend.launcher_socket, backend.prefix = "/nowhere/launcher.sock", "/env"
    backend.db_url, backend.db_encrypt_keys = f"sqlite:///{tmp_path}/db", [Fernet.generate_key().decode()]
    backend.api_url, backend.stop_clusters_on_shutdown = "http://127.0.0.1:1/api", False
    backend.watch_period = backend.cluster_status_period = backend.worker_status_period = 0.05
    config.Proxy.externally_managed, config.Proxy.api_token = True, "the-proxy"
    config.Proxy.address = config.Proxy.gateway_address = "127.0.0.1:1"
    return config


@pytest.fixture
async def gate(settings: Config) -> AsyncIterator[Gate]:
    launcher = FakeLauncher()
    backend = LauncherBackend(config=settings, gateway_address="127.0.0.1:1")
    backend.launcher = backend.glance = launcher
    authenticator = GatewayAuthenticator(service_token="the-service")
    app = web.Application()
    app.add_routes(default_routes)
    app.update(backend=backend, authenticator=authenticator, log=backend.log)
    await authenticator.setup(app)
    await backend.setup(app)
    async with TestClient(TestServer(app)) as client:
        yield Gate(client, backend, launcher)
    await backend.cleanup()
    await authenticator.cleanup()


async def test_life_of_a_cluster(gate: Gate) -> None:
    """Each state with its reason in words, from the request to the end."""
    name = await gate.create(workers=2)
    shown = await gate.until_status(name, "starting")
    assert shown["reason"] == "The scheduler is starting."
    assert shown["workers"] == {"wanted": 2, "running": 0, "starting": 0}
    assert shown["dashboard"] is None
    assert await gate.beat(name, count=2, specola={"idle_since": 50.0}) == 200
    await gate.until(lambda: len(gate.workers(name)) == 2)
    shown = await gate.until_status(name, "running")
    assert shown["reason"] == "2 workers of 2 are starting."
    assert (shown["idle_since"], shown["stops_at"]) == (50.0, 150.0)
    assert shown["dashboard"] == f"specola/clusters/{name}/dashboard/status"
    one, two = gate.workers(name)
    assert await gate.beat(name, count=2, active_workers=[one]) == 200
    assert (await gate.shown(name))["reason"] == "1 worker of 2 is starting."
    assert await gate.beat(name, count=2, active_workers=[one, two]) == 200
    shown = await gate.shown(name)
    assert (shown["reason"], shown["workers"]) == ("", {"wanted": 2, "running": 2, "starting": 0})
    report = (await gate.ask("GET", f"/api/v1/clusters/{name}")).json
    assert report["options"]["specola"] == {"address": "tls://127.0.0.1:5"}
    assert (await gate.ask("DELETE", f"/api/v1/clusters/{name}")).status == 204
    shown = await gate.until_status(name, "stopped")
    assert shown["reason"] == ""
    assert gate.launcher.running == {}
    assert await gate.beat(name, count=2) == 200
    assert (await gate.ask("GET", "/api/v1/clusters/0")).status == 404


async def test_a_cluster_says_why_it_stopped(gate: Gate) -> None:
    name = await gate.create()
    await gate.beat(name, specola={"ending": "No work for 9 s."})
    await gate.ask("DELETE", PERSON.format(person="anna"))
    assert (await gate.until_status(name, "stopped"))["reason"] == "No work for 9 s."


async def test_a_scheduler_that_dies_at_its_start(gate: Gate) -> None:
    name = await gate.create()
    gate.launcher.die(f"cluster.{name}.scheduler", 1, "Traceback\nImportError: no distributed\n")
    shown = await gate.until_status(name, "failed")
    assert shown["reason"] == "The scheduler failed (code 1): Traceback / ImportError: no distributed"


async def test_a_scheduler_that_dies_later(gate: Gate) -> None:
    """It is noticed by its process, long before its heartbeats are missed."""
    name = await gate.create()
    await gate.beat(name)
    await gate.until_status(name, "running")
    gate.launcher.die(f"cluster.{name}.scheduler", None)
    assert (await gate.until_status(name, "failed"))["reason"] == "The scheduler failed."


async def test_a_launcher_that_is_away_says_nothing_about_its_programs(gate: Gate) -> None:
    """Unknown is alive."""
    name = await gate.create(workers=1)
    await gate.beat(name, count=1)
    await gate.until(lambda: gate.workers(name))
    gate.launcher.away = True
    gate.launcher.running.clear()
    await asyncio.sleep(0.3)
    assert (await gate.shown(name))["status"] == "running"
    assert await gate.backend.why("k", "It failed") == "It failed."


async def test_a_launcher_that_refuses(gate: Gate) -> None:
    gate.launcher.refuses = ".scheduler"
    answer = await gate.ask("POST", "/api/v1/clusters/", json={})
    shown = await gate.until_status(answer.json["name"], "failed")
    assert shown["reason"] == "The launcher does not start a process of it: no such program."


async def test_workers_that_die_are_replaced_and_the_reason_is_shown(gate: Gate) -> None:
    name = await gate.create()
    await gate.beat(name, count=1)
    await gate.until(lambda: gate.workers(name))
    (first,) = gate.workers(name)
    gate.launcher.die(f"cluster.{name}.worker.{first}", -9, "Killed")
    await gate.until(lambda: gate.workers(name) not in ([], [first]))
    await gate.until_shown(name, "reason", "1 worker of 1 is starting. A worker ended (signal 9): Killed")
    (second,) = gate.workers(name)
    await gate.beat(name, count=1, active_workers=[second])
    assert (await gate.shown(name))["reason"] == ""
    await gate.beat(name, count=0, closing_workers=[second])
    await gate.beat(name, count=0, closed_workers=[second])
    await gate.until(lambda: not gate.workers(name))


async def test_budget_over_several_clusters(gate: Gate) -> None:
    """What is promised counts before the scheduler has said so, and is given back when it was not delivered."""
    one, two = await gate.create(workers=1), await gate.create()
    for name in (one, two):
        await gate.beat(name, count=1 if name == one else 0)
        await gate.until_status(name, "running")
    answer = await gate.ask("POST", "/api/v1/clusters/", json={})
    assert (answer.status, answer.headers[REASON_HEADER]) == (422, "TooMuch too_many_clusters")
    delivered: list[dict[str, Any]] = []

    class Session:
        async def post(self, _url: str, *, json: dict[str, Any], **_more: Any) -> None:
            delivered.append(json)

        async def close(self) -> None:
            """Nothing to close."""

    real, gate.backend.session = gate.backend.session, Session()
    await real.close()
    assert (await gate.ask("POST", f"/api/v1/clusters/{two}/scale", json={"count": 3})).status == 200
    assert (await gate.ask("POST", f"/api/v1/clusters/{one}/scale", json={"count": 2})).status == 422
    assert (await gate.ask("POST", f"/api/v1/clusters/{two}/adapt", json={"minimum": 0})).status == 200
    assert delivered[-1] == {"op": "adapt", "minimum": 0, "maximum": 3, "active": True}
    await gate.beat(two, specola={"adaptive": {"minimum": 0, "maximum": 3}})
    assert (await gate.shown(two))["adaptive"] == {"minimum": 0, "maximum": 3}
    assert gate.backend.elsewhere("anna", one) == 3
    assert (await gate.ask("POST", f"/api/v1/clusters/{two}/adapt", json={"active": False})).status == 200
    await gate.beat(two)
    assert gate.backend.elsewhere("anna", one) == 0
    await gate.beat(one, count=50)
    assert (await gate.shown(one))["workers"]["wanted"] == 4


async def test_a_scheduler_that_cannot_be_told_keeps_no_promise(gate: Gate) -> None:
    name = await gate.create()
    assert (await gate.ask("POST", f"/api/v1/clusters/{name}/scale", json={"count": 3})).status == 409
    assert gate.backend.promised[name] == 0


async def test_groups_that_somebody_was_last_seen_with_count(gate: Gate) -> None:
    """Whoever joins a group has its budget with the next request; after a restart, that of the cluster's making."""
    assert gate.backend.allowance_of("anna", ("ml",)).workers == 6
    name = await gate.create()
    assert gate.backend.allowance_of("anna", ("ml",)).workers == 4
    await gate.ask("GET", f"/api/v1/clusters/{name}", group="ml")
    assert gate.backend.allowance_of("anna").workers == 6


async def test_stopping_one_cluster_leaves_the_others_their_budget(gate: Gate) -> None:
    one, two = await gate.create(), await gate.create()
    for name in (one, two):
        await gate.beat(name)
        await gate.until_status(name, "running")
    service = GatewayApi(str(gate.client.make_url("/")), "the-service")
    await service.stop("anna", ["ml"], one)
    await service.close()
    await gate.until_status(one, "stopped")
    await gate.beat(two, count=6)
    assert (await gate.shown(two))["workers"]["wanted"] == 6


async def test_sites_by_group(gate: Gate) -> None:
    fields = (await gate.ask("GET", "/api/v1/options")).json["cluster_options"]
    assert fields[0]["spec"]["options"] == ["here"]
    assert [field["field"] for field in fields] == ["site", "environment", "workers", "request"]
    answer = await gate.ask("POST", "/api/v1/clusters/", json={"cluster_options": {"site": "far"}})
    assert answer.json["error"] == "This site is not open to your groups. It is open to: ml."
    gate.backend.section = ScaleoutSection(sites={"far": SITES["far"]})
    assert (await gate.ask("GET", "/api/v1/options")).status == 422
    assert (await gate.ask("POST", "/api/v1/clusters/", json={})).status == 422
    gate.backend.section = ScaleoutSection(sites=SITES)
    assert (await gate.ask("POST", "/api/v1/clusters/", json={"cluster_options": [1]})).status == 422


async def test_the_same_key_is_the_same_cluster_as_long_as_it_runs(gate: Gate) -> None:
    first = await gate.create(request="k1")
    assert await gate.create(request="k1") == first
    await gate.ask("DELETE", f"/api/v1/clusters/{first}")
    await gate.until_status(first, "stopped")
    assert await gate.create(request="k1") != first


@pytest.mark.parametrize(
    ("options", "words"),
    [({"gpu": 1}, "There is no such option."), ({"workers": "2"}, "Option workers must be a number.")],
)
async def test_options_that_are_none(gate: Gate, options: dict[str, Any], words: str) -> None:
    answer = await gate.ask("POST", "/api/v1/clusters/", json={"cluster_options": options})
    assert answer.status == 422
    assert answer.json["error"].startswith(words)


async def test_a_heartbeat_that_is_none(gate: Gate) -> None:
    name = await gate.create()
    assert await gate.beat(name, count="many") == 422


async def test_an_ended_cluster_is_forgotten_when_it_is_stopped_again(gate: Gate) -> None:
    name = await gate.create()
    for status in ("stopped", ""):
        assert (await gate.ask("DELETE", f"/api/v1/clusters/{name}")).status == 204
        if status:
            await gate.until_status(name, status)
    assert (await gate.ask("GET", CLUSTERS)).json["items"] == []
    assert (await gate.ask("DELETE", "/api/v1/clusters/0")).status == 204


async def test_a_proxy_that_outlived_a_gateway_fetches_all_routes(gate: Gate) -> None:
    """Route numbers of a new gateway are above all that the proxy has seen: it is told to start over."""
    headers = {"Authorization": "token the-proxy"}
    answer = await gate.client.get("/api/v1/routes?watch=1&last_id=7", headers=headers)
    assert answer.status == 410
    table = await (await gate.client.get("/api/v1/routes", headers=headers)).json()
    assert table["id"] > 7


async def test_nobody_but_the_service_sees_everybody(gate: Gate) -> None:
    for method, path in (("GET", CLUSTERS), ("DELETE", PERSON.format(person="anna"))):
        answer = await gate.client.request(method, path, headers={"Authorization": "token somebody"})
        assert answer.status == 403
        assert (await gate.client.request(method, path)).status == 401
