"""The use cases, the gateway's client and the routes, without a gateway."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any

import httpx
import pytest
from dask_gateway_server.backends.db_base import Cluster as Record
from dask_gateway_server.backends.db_base import JobStatus
from specola.core.errors import Conflict, NotFound, PublicError, TooMuch, Unavailable
from specola.http.route import Caller, Request
from specola.scaleout.adapters.gateway import GatewayApi
from specola.scaleout.adapters.gateway_log import UPSTREAM, adopt, says_something
from specola.scaleout.adapters.overview import describe
from specola.scaleout.adapters.wire import REASON_HEADER, Report
from specola.scaleout.api import NewCluster, Scale
from specola.scaleout.cluster import Adaptive, Cluster, OwnedCluster, Status, Workers
from specola.scaleout.model import GroupScaleout, LocalSite, ScaleoutSection
from specola.scaleout.routes import routes
from specola.scaleout.service import EVENT, ScaleoutService

SECTION = ScaleoutSection(sites={"here": LocalSite(), "far": LocalSite(groups=("ml",))}, max_workers=8)
GROUPS = {"physics": GroupScaleout(max_workers=6)}


def owned(name: str, person: str = "anna", **more: Any) -> OwnedCluster:
    known: dict[str, Any] = {"site": "here", "environment": "default", "status": Status.RUNNING, "started": 1.0}
    return OwnedCluster(name=name, person=person, **(known | more))


class FakeGateway:
    """Clusters in memory."""

    def __init__(self, *clusters: OwnedCluster) -> None:
        self.items = list(clusters)
        self.asked: list[tuple[Any, ...]] = []

    async def clusters(self) -> list[OwnedCluster]:
        return self.items

    async def create(self, person: str, groups: Collection[str], options: dict[str, Any]) -> str:
        self.asked.append(("create", person, tuple(groups), options))
        self.items.append(owned("new", person, status=Status.PENDING))
        return "new"

    async def scale(self, person: str, groups: Collection[str], name: str, workers: int) -> None:
        self.asked.append(("scale", person, tuple(groups), name, workers))

    async def adapt(self, person: str, groups: Collection[str], name: str, minimum: int, maximum: int) -> None:
        self.asked.append(("adapt", person, tuple(groups), name, minimum, maximum))

    async def stop(self, person: str, groups: Collection[str], name: str) -> None:
        self.asked.append(("stop", person, tuple(groups), name))

    async def stop_all(self, person: str) -> list[str]:
        self.asked.append(("stop_all", person))
        return ["c1"]


class FakeEvents:
    """Remembers what was told to whom."""

    def __init__(self) -> None:
        self.told: list[tuple[str | None, str, dict[str, Any]]] = []

    def publish(self, person: str | None, type: str, data: dict[str, Any]) -> None:  # noqa: A002
        self.told.append((person, type, data))


def service(*clusters: OwnedCluster) -> tuple[ScaleoutService, FakeGateway, FakeEvents]:
    gateway, events = FakeGateway(*clusters), FakeEvents()
    return ScaleoutService(gateway, events, SECTION, GROUPS), gateway, events


async def test_changes_are_told_to_their_owner_once() -> None:
    """What was there at the start is no news; a change is, without the owner's name in it."""
    made, gateway, events = service(owned("c1"))
    await made.look()
    await made.look()
    assert events.told == []
    gateway.items = [owned("c1", workers=Workers(wanted=1)), owned("c2", "marco")]
    await made.look()
    await made.look()
    assert [(person, kind, data["name"]) for person, kind, data in events.told] == [
        ("anna", EVENT, "c1"),
        ("marco", EVENT, "c2"),
    ]
    assert "person" not in events.told[0][2]
    Cluster.model_validate(events.told[0][2])


async def test_sites_say_what_is_free_and_why_not() -> None:
    """Adaptive clusters hold their maximum, ended ones nothing."""
    made, _, _ = service(
        owned("c1", workers=Workers(wanted=1)),
        owned("c2", adaptive=Adaptive(maximum=2)),
        owned("c3", status=Status.FAILED, workers=Workers(wanted=9)),
        owned("c4", "marco", workers=Workers(wanted=9)),
    )
    here, far = (await made.sites("anna", ["physics"])).items
    assert (here.name, here.available, here.free, here.max_workers) == ("here", True, 3, 6)
    assert (far.available, far.free, far.reason) == (False, 0, "It is open to: ml.")


async def test_everybody_sees_their_own_only() -> None:
    made, gateway, _ = service(owned("old"), owned("young", started=2.0), owned("other", "marco"))
    assert [cluster.name for cluster in (await made.mine("anna")).items] == ["young", "old"]
    for action in (
        made.one("anna", "other"),
        made.scale("anna", [], "other", Scale(workers=1)),
        made.stop("anna", (), "other"),
    ):
        with pytest.raises(NotFound):
            await action
    assert gateway.asked == []


async def test_create_places_and_passes_the_key_on() -> None:
    made, gateway, _ = service()
    cluster = await made.create("anna", ["physics"], NewCluster(workers=2), "k1")
    assert cluster.status is Status.PENDING
    options = {"site": "here", "environment": "default", "workers": 2, "request": "k1"}
    assert gateway.asked == [("create", "anna", ("physics",), options)]
    await made.create("anna", ["physics"], NewCluster())
    assert gateway.asked[1][3]["request"] == ""
    with pytest.raises(NotFound):
        await made.create("anna", [], NewCluster(site="mars"))


async def test_scale_and_stop() -> None:
    made, gateway, _ = service(owned("c1"), owned("c2", status=Status.STOPPED))
    await made.scale("anna", ["physics"], "c1", Scale(workers=0))
    await made.scale("anna", ["physics"], "c1", Scale(maximum=4))
    await made.stop("anna", ("physics",), "c1")
    assert await made.stop_all("anna") == ["c1"]
    assert set(await made.people()) == {"anna"}
    assert [asked[0] for asked in gateway.asked] == ["scale", "adapt", "stop", "stop_all"]
    assert gateway.asked[2] == ("stop", "anna", ("physics",), "c1")
    assert gateway.asked[1][-2:] == (0, 4)
    with pytest.raises(NotFound):
        await made.stop("anna", (), "c9")
    with pytest.raises(Conflict):
        await made.scale("anna", ["physics"], "c2", Scale(workers=1))


async def test_every_route_answers_as_it_declares() -> None:
    made, _, _ = service(owned("c1"))
    table = {route.name: route for route in routes(made)}
    caller = Caller("anna", ("physics",))
    bodies = {
        "POST /scaleout/clusters": NewCluster(workers=1),
        "POST /scaleout/clusters/{name}/scale": Scale(workers=1),
    }
    for name, route in table.items():
        answer = await route.handler(caller, Request(path_args={"name": "c1"}, body=bodies.get(name)))
        assert (answer is None) == (route.response is None)
        assert route.response is None or isinstance(answer, route.response)
        assert route.scope == "custom:specola:scaleout" + ("" if route.method == "GET" else ":write")


def api(answer: Callable[[httpx.Request], httpx.Response]) -> GatewayApi:
    return GatewayApi("http://gateway", "the-service", patience=0.3, transport=httpx.MockTransport(answer))


async def test_what_is_asked_of_the_gateway() -> None:
    """Each request carries the secret, the person with their groups, and a request id."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.method == "GET":
            return httpx.Response(200, json={"items": [owned("c1").model_dump(mode="json")]})
        return httpx.Response(200, json={"name": "c1", "ended": ["c1"]})

    gateway = api(answer)
    assert await gateway.clusters() == [owned("c1")]
    assert await gateway.create("j. m", ["a", "b,c"], {"workers": 1}) == "c1"
    await gateway.scale("anna", [], "c1", 2)
    await gateway.adapt("anna", [], "c1", 0, 3)
    await gateway.stop("anna", ("physics",), "c1")
    assert await gateway.stop_all("a/b") == ["c1"]
    await gateway.close()
    assert [f"{request.method} {request.url.raw_path.decode()}" for request in seen] == [
        "GET /api/specola/clusters",
        "POST /api/v1/clusters/",
        "POST /api/v1/clusters/c1/scale",
        "POST /api/v1/clusters/c1/adapt",
        "DELETE /api/v1/clusters/c1",
        "DELETE /api/specola/people/a%2Fb/clusters",
    ]
    assert seen[1].headers["X-Specola-User"] == "j.%20m"
    assert seen[1].headers["X-Specola-Groups"] == "a,b%2Cc"
    assert seen[4].headers["X-Specola-Groups"] == "physics"
    assert all(request.headers["Authorization"] == "token the-service" for request in seen)
    assert all(request.headers["X-Request-ID"] for request in seen)
    assert "X-Specola-User" not in seen[0].headers


@pytest.mark.parametrize(
    ("status", "headers", "body", "error", "title"),
    [
        (422, {REASON_HEADER: "TooMuch too_many_workers"}, {"error": "Too many. Ask less."}, TooMuch, "Too many"),
        (404, {}, {"error": "x"}, NotFound, "There is no such cluster of yours"),
        (409, {}, {"error": "x"}, Conflict, "The cluster does not run yet, or no longer"),
        (500, {}, ["x"], Unavailable, "The manager of Dask clusters does not answer"),
        (401, {}, None, Unavailable, "The manager of Dask clusters does not answer"),
    ],
)
async def test_refusals_of_the_gateway(
    status: int, headers: dict[str, str], body: object, error: type[PublicError], title: str
) -> None:
    with pytest.raises(error) as refused:
        await api(lambda _: httpx.Response(status, headers=headers, json=body)).scale("anna", [], "c1", 2)
    assert refused.value.title == title


async def test_a_gateway_that_restarts_is_waited_for() -> None:
    tries: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        tries.append(1)
        if len(tries) < 2:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200, json={"items": []})

    assert await api(answer).clusters() == []


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ReadTimeout])
async def test_a_gateway_that_stays_away(error: type[httpx.HTTPError]) -> None:
    """A request that was sent is not sent again: it may have been done."""

    def answer(_: httpx.Request) -> httpx.Response:
        raise error("away")

    with pytest.raises(Unavailable):
        await api(answer).create("anna", [], {})


@pytest.mark.parametrize(
    ("status", "target", "shown", "reason"),
    [
        (JobStatus.CREATED, JobStatus.RUNNING, "pending", "Waiting for its turn to start."),
        (JobStatus.SUBMITTED, JobStatus.RUNNING, "starting", "The scheduler is starting."),
        (JobStatus.RUNNING, JobStatus.RUNNING, "running", ""),
        (JobStatus.RUNNING, JobStatus.STOPPED, "stopping", "why"),
        (JobStatus.CLOSING, JobStatus.FAILED, "stopping", "why"),
        (JobStatus.STOPPED, JobStatus.STOPPED, "stopped", "why"),
        (JobStatus.FAILED, JobStatus.FAILED, "failed", "why"),
    ],
)
async def test_six_states_in_words(status: JobStatus, target: JobStatus, shown: str, reason: str) -> None:
    record = Record(
        name="c1", username="anna", options={}, status=status, target=target, count=0, state={}, start_time=1000
    )
    cluster = describe(record, Report(idle_since=5.0), "why", 0)
    assert (cluster.status, cluster.reason) == (shown, reason)
    assert cluster.stops_at is None
    assert (cluster.idle_since is None) == (shown != "running")


def test_the_gateway_logs_as_everybody_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream's own handler goes, ours redacts."""
    root, upstream = logging.getLogger(), logging.getLogger(UPSTREAM)
    monkeypatch.setattr(root, "handlers", list(root.handlers))
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(upstream, "filters", [])
    monkeypatch.setattr(upstream, "handlers", [logging.NullHandler()])
    adopt()
    assert upstream.handlers == []
    assert upstream.filters == [says_something]


def test_the_log_of_the_gateway_leaves_the_routine_out() -> None:
    def record(level: int, text: str) -> logging.LogRecord:
        return logging.LogRecord("DaskGateway", level, "", 0, text, None, None)

    assert not says_something(record(logging.INFO, "200 GET /api/specola/clusters 0.3ms"))
    assert says_something(record(logging.WARNING, "500 GET /api/specola/clusters 0.3ms"))
    assert says_something(record(logging.INFO, "Cluster c1 is running"))
