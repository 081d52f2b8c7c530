"""GPU sharing over HTTP: the life of a request, for people, for the spawner and for operators."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from apirig import Rig, serving
from fakehub import EVERYTHING
from jsonschema import Draft202012Validator
from running import TOP
from specola.facility.model import Facility
from specola.gpu.service import GpuService
from specola.server.openapi import openapi

from gpu.servicerig import SECRET, FakeRunner

DOCUMENT: dict[str, Any] = {
    "groups": {
        "physics": {"gpu": {"max_slots": 8}},
        "ml": {"gpu": {"guaranteed_slots": 2, "longest_lease": 3600}},
        "ops": {"roles": ["admin"], "members": ["dora"]},
    },
    "gpu": {
        "pools": {
            "a100": {"actuator": "simulated", "model": "A100-40GB", "cards": 2},
            "mine": {"actuator": "simulated", "model": "A30-24GB", "groups": ["ml"], "layout": ["2g", "1g", "1g"]},
            "cloud": {"actuator": "dra", "model": "H100-80GB"},
        },
        "max_requests": 4,
    },
}
OPERATOR = (*EVERYTHING, "custom:specola:admin")


@dataclass
class Gpus:
    """The API service with GPUs; the loop goes round when a test says so."""

    rig: Rig
    service: GpuService
    runner: FakeRunner
    _tokens: dict[str, dict[str, str]] = field(default_factory=dict)

    async def ask(self, method: str, path: str, who: str = "anna", **more: Any) -> httpx.Response:
        return await self.rig.ask(method, f"/gpu/{path}", self.headers(who), **more)

    def headers(self, who: str = "anna") -> dict[str, str]:
        """The same token for a person each time, as a browser has it."""
        if who not in self._tokens:
            self._tokens[who] = self.rig.token(who, OPERATOR if who == "dora" else EVERYTHING)
        return self._tokens[who]

    async def hub(self, method: str, path: str, **more: Any) -> httpx.Response:
        """As the spawner does, with the service's own token."""
        headers = {"Authorization": f"token {self.rig.runtime.layout.secret('service')}"}
        return await self.rig.ask(method, f"/gpu/{path}", headers, **more)

    async def go_round(self) -> None:
        for _ in range(3):
            await self.service.step()
            await self.service.settle()

    async def lease(self, who: str = "anna", **wish: Any) -> dict[str, Any]:
        """A lease that is offered to somebody."""
        answer = await self.ask("POST", "requests", who, json=wish if "gib" in wish else {"shape": "1g", **wish})
        assert answer.status_code == 202, answer.text
        await self.go_round()
        found: dict[str, Any] = (await self.ask("GET", f"requests/{answer.json()['id']}", who)).json()
        return dict((await self.ask("GET", f"leases/{found['lease']}", who)).json())


@contextlib.asynccontextmanager
async def gpus_at(place: Path, document: dict[str, Any] = DOCUMENT) -> AsyncIterator[Gpus]:
    async with serving(place, Facility.model_validate(document)) as rig:
        rig.state.people |= {"dora": ["ops", "physics"], "carlo": ["ml"]}
        (service,) = [
            close.__self__  # type: ignore[attr-defined]
            for close in rig.service.closing
            if isinstance(getattr(close, "__self__", None), GpuService)
        ]
        runner = FakeRunner()
        for pool in service.pools.values():
            pool.runner = runner if pool.runner is not None else None
        made = Gpus(rig, service, runner)
        await made.go_round()
        yield made


@pytest.fixture
async def gpus(tmp_path: Path) -> AsyncIterator[Gpus]:
    async with gpus_at(tmp_path) as made:
        yield made


def start(lease: dict[str, Any], kernel: str = "11111111-aaaa") -> dict[str, Any]:
    relay = "ws://127.0.0.1:8000/user/anna/specola/gpu/relay/1"
    return {"token": lease["token"], "kernel_id": kernel, "relay_url": relay, "secret": SECRET}


async def test_the_life_of_a_lease(gpus: Gpus) -> None:
    lease = await gpus.lease(gib=20)
    path = f"leases/{lease['id']}"
    assert (lease["state"], lease["profile"], lease["simulated"]) == ("offered", "3g.20gb", True)
    started = await gpus.ask("POST", f"{path}/kernel", json=start(lease))
    assert (started.status_code, started.json()["state"]) == (202, "starting")
    assert SECRET not in started.text
    token = {"token": lease["token"]}
    assert (await gpus.ask("POST", f"{path}/confirm", json=token)).json()["state"] == "active"
    report = {**token, "kernel": "busy", "since": 1.0, "checkpoint": True}
    assert (await gpus.ask("POST", f"{path}/activity", json=report)).json()["checkpoint"] is True
    renewed = (await gpus.ask("POST", f"{path}/renew", json={**token, "minutes": 30})).json()
    assert renewed["state"] == "active"
    released = await gpus.ask("DELETE", path, params=token)
    assert (released.status_code, released.json()["state"]) == (202, "saving")
    saved = {**token, "names": ["x"], "failed": [{"name": "y", "why": "a socket"}], "hooks": 0, "size": 12}
    assert (await gpus.ask("POST", f"{path}/saved", json=saved)).json()["state"] == "ending"
    await gpus.go_round()
    ended = (await gpus.ask("GET", "leases")).json()["items"][0]
    assert (ended["state"], ended["outcome"], ended["saved"]["names"]) == ("ended", "released", ["x"])


async def test_answers_have_the_shape_that_is_promised(gpus: Gpus) -> None:
    lease = await gpus.lease()
    await gpus.ask("POST", "requests", "anna", json={"shape": "7g"})
    await gpus.go_round()
    components = openapi()["components"]
    paths = {"offers": "Offers", "requests": "Requests", "leases": "Leases", "advice?gib=20": "Advice"}
    paths |= {f"leases/{lease['id']}": "Lease", f"requests/{lease['request']}": "Request"}
    for path, model in paths.items():
        answer = await gpus.ask("GET", path)
        schema = {"$ref": f"#/components/schemas/{model}", "components": components}
        Draft202012Validator(schema).validate(answer.json())
    overview = (await gpus.ask("GET", "overview", "dora")).json()
    Draft202012Validator({"$ref": "#/components/schemas/Overview", "components": components}).validate(overview)


async def test_every_pool_says_what_it_is_and_why_it_cannot_be_used(gpus: Gpus) -> None:
    pools = {pool["name"]: pool for pool in (await gpus.ask("GET", "offers")).json()["pools"]}
    assert [pool["available"] for pool in pools.values()] == [True, False, False]
    assert pools["mine"]["reason"] == "It is open to: ml."
    assert "Kubernetes" in pools["cloud"]["reason"]
    assert [pool["simulated"] for pool in pools.values()] == [True, True, False]
    assert [pool["granularity"] for pool in pools.values()][:2] == ["instance", "none"]
    shapes = {shape["shape"]: shape["free"] for shape in pools["mine"]["shapes"]}
    assert shapes == {"1g": 2, "2g": 1}
    assert [part["shape"] for part in pools["mine"]["gpus"][0]["parts"]] == ["1g", "1g", "2g"]


async def test_a_fixed_layout_hands_out_what_it_has(gpus: Gpus) -> None:
    lease = await gpus.lease("carlo", pool="mine", shape="2g")
    assert (lease["pool"], lease["shape"], lease["group"]) == ("mine", "2g", "ml")
    parts = {pool["name"]: pool for pool in (await gpus.ask("GET", "offers", "carlo")).json()["pools"]}["mine"]
    assert [part["state"] for part in parts["gpus"][0]["parts"] if part["mine"]] == ["busy"]


async def test_advice_says_what_a_size_is_and_what_the_next_one_costs(gpus: Gpus) -> None:
    advice = (await gpus.ask("GET", "advice", params={"gib": "4"})).json()
    assert advice["choice"]["profile"] == "1g.5gb"
    assert "It is free now." in advice["text"]
    assert advice["alternatives"]
    nothing = (await gpus.ask("GET", "advice", params={"gib": "4000"})).json()
    assert (await gpus.ask("GET", "advice", params={"gib": "4", "pool": "x" * 65})).status_code == 400
    assert (nothing["choice"], "largest that can be had" in nothing["text"]) == (None, True)
    for query in ({}, {"gib": "much"}, {"gib": "nan"}, {"gib": "1", "minutes": "inf"}):
        assert (await gpus.ask("GET", "advice", params=query)).status_code == 400


async def test_a_course_is_planned_and_nothing_reserved(gpus: Gpus) -> None:
    plan = {"pool": "a100", "shape": "1g", "seats": 10, "show_up": 0.85}
    need = (await gpus.ask("POST", "courses/plan", json=plan)).json()
    assert (need["attendance"], need["per_gpu"], need["gpus"], need["enough"]) == (10, 7, 2, True)
    more = (await gpus.ask("POST", "courses/plan", json={**plan, "seats": 150, "shape": "2g"})).json()
    assert (more["attendance"], more["gpus"], more["enough"], len(more["conflicts"])) == (137, 46, False, 1)
    early = await gpus.ask("POST", "courses/plan", json={**plan, "start": "0001-01-01T00:00:00"})
    assert (early.status_code, early.json()["title"]) == (400, "There is no such time")
    crowd = await gpus.ask("POST", "courses/plan", json={**plan, "seats": 10000})
    assert (crowd.status_code, crowd.json()["attendance"]) == (200, 8583)
    for wrong in ({"pool": "nothing"}, {"pool": "cloud"}, {"shape": "9g"}):
        assert (await gpus.ask("POST", "courses/plan", json={**plan, **wrong})).status_code == 422


async def test_the_spawner_redeems_confirms_and_gives_back(gpus: Gpus) -> None:
    lease = await gpus.lease(server=True)
    grant = await gpus.ask("POST", f"leases/{lease['id']}/grant", json={"token": lease["token"]})
    wish = {**grant.json(), "person": "anna", "server": ""}
    answer = (await gpus.hub("POST", "grants/redeem", json=wish)).json()
    assert answer["environment"]["NVIDIA_VISIBLE_DEVICES"] == lease["device"]
    path, token = f"leases/{lease['id']}", {"token": answer["token"]}
    confirmed = await gpus.hub("POST", f"{path}/confirm", json=token)
    assert (confirmed.json()["state"], confirmed.json()["server"]) == ("active", "")
    assert (await gpus.hub("DELETE", path, params=token)).status_code == 202
    await gpus.go_round()
    assert (await gpus.ask("GET", path)).json()["state"] == "ended"


async def test_operators_see_all_drain_and_end(gpus: Gpus) -> None:
    lease = await gpus.lease()
    overview = (await gpus.ask("GET", "overview", "dora")).json()
    assert overview["held"][0]["person"] == "anna"
    drain = f"drains/a100/{lease['gpu']}"
    assert (await gpus.ask("PUT", drain, "dora", json={"reason": "maintenance"})).status_code == 204
    pools = (await gpus.ask("GET", "offers")).json()["pools"]
    assert [gpu["drained"] for gpu in pools[0]["gpus"]].count(True) == 1
    assert (await gpus.ask("DELETE", drain, "dora")).status_code == 204
    assert (await gpus.ask("DELETE", drain, "dora")).status_code == 404
    assert (await gpus.ask("DELETE", f"leases/{lease['id']}", "dora")).status_code == 202


async def test_a_drain_may_begin_later(gpus: Gpus) -> None:
    lease = await gpus.lease()
    later = {"reason": "a course", "start": "2100-01-01T08:00:00Z"}
    await gpus.ask("PUT", f"drains/a100/{lease['gpu']}", "dora", json=later)
    pools = (await gpus.ask("GET", "offers")).json()["pools"]
    assert not any(gpu["drained"] for gpu in pools[0]["gpus"])


async def test_who_holds_a_slice_is_watched_over_and_loses_it_with_the_right(gpus: Gpus) -> None:
    await gpus.lease()
    await gpus.ask("POST", "requests", json={"shape": "whole"})
    headers = {"Authorization": f"token {gpus.rig.runtime.layout.secret('service')}"}
    people = (await gpus.rig.ask("GET", "/scaleout/people", headers)).json()
    assert people["running"] == [{"name": "anna", "clusters": 0, "workers": 0, "gpus": 2}]
    ended = await gpus.rig.ask("POST", "/scaleout/people", headers, json={"name": "anna"})
    assert len(ended.json()["items"]) == 2
    await gpus.go_round()
    assert (await gpus.rig.ask("GET", "/scaleout/people", headers)).json()["items"] == []


async def test_what_is_measured_has_fixed_labels(gpus: Gpus) -> None:
    lease = await gpus.lease(shape="3g")
    await gpus.ask("POST", "requests", "bob", json={"shape": "whole"})
    await gpus.go_round()
    answer = await gpus.rig.http.get("/services/specola/metrics", headers=gpus.rig.token("dora", ("read:metrics",)))
    text = answer.text
    assert 'specola_gpu_leases{pool="a100",simulated="true",state="offered"} 1.0' in text
    assert 'specola_gpu_wait_seconds_count{pool="a100",simulated="true"} 1.0' in text
    for name in ("queue_length", "granted_slot_seconds_total", "busy_slot_seconds_total", "reclaims_total"):
        for pool, simulated in (("a100", "true"), ("mine", "true"), ("cloud", "false")):
            assert f'specola_gpu_{name}{{pool="{pool}",simulated="{simulated}"}}' in text
    assert 'specola_gpu_fragmentation{pool="a100",shape="7g",simulated="true"}' in text
    assert "anna" not in text
    assert lease["id"] not in text


def test_the_contract_on_the_wire_has_every_route() -> None:
    paths = json.loads((TOP / "extension" / "openapi.json").read_text())["paths"]
    assert len([path for path in paths if path.startswith("/gpu/")]) == 16
