"""Every endpoint of the API in one list, tried by everybody who may not use it."""

from __future__ import annotations

import pytest
from apirig import Rig
from specola.core.scopes import SCOPES
from specola.http.app import MAX_BODY
from specola.http.route import PUBLIC, Route
from specola.server.wiring import all_routes

ROUTES = all_routes()
BY_NAME = pytest.mark.parametrize("route", ROUTES, ids=lambda r: r.name)
WITH_BODY = pytest.mark.parametrize("route", [r for r in ROUTES if r.request], ids=lambda r: r.name)
KEYS = {"type", "title", "status", "detail", "reason", "request_id"}


def at(route: Route) -> str:
    return route.path.replace("{name}", "some-name")


def is_problem(answer: object, status: int, reason: str) -> None:
    assert answer.status_code == status, answer.text  # type: ignore[attr-defined]
    assert answer.headers["content-type"] == "application/problem+json"  # type: ignore[attr-defined]
    document = answer.json()  # type: ignore[attr-defined]
    assert set(document) == KEYS
    assert (document["status"], document["reason"]) == (status, reason)
    assert document["request_id"] == answer.headers["x-request-id"]  # type: ignore[attr-defined]


def test_nothing_but_the_health_check_is_public() -> None:
    assert not [r for r in ROUTES if r.scope == PUBLIC]


@BY_NAME
async def test_nobody_is_asked_to_log_in_and_not_redirected(rig: Rig, route: Route) -> None:
    is_problem(await rig.ask(route.method, at(route)), 401, "unauthenticated")


@BY_NAME
@pytest.mark.parametrize("header", ["token wrong", "Bearer eyJhbGciOi.tampered.sig", "Basic YTpi", ""])
async def test_a_wrong_token_is_nobody(rig: Rig, route: Route, header: str) -> None:
    is_problem(await rig.ask(route.method, at(route), {"Authorization": header}), 401, "unauthenticated")


@BY_NAME
async def test_every_other_scope_is_not_enough(rig: Rig, route: Route) -> None:
    others = tuple(scope for scope in SCOPES if scope != route.scope)
    is_problem(await rig.ask(route.method, at(route), rig.token(scopes=others)), 403, "forbidden")


@BY_NAME
async def test_another_method_is_named_as_such(rig: Rig, route: Route) -> None:
    answer = await rig.ask("PATCH", at(route), rig.token())
    is_problem(answer, 405, "method_not_allowed")
    assert route.method in answer.headers["allow"]


@BY_NAME
async def test_a_cookie_without_proof_is_refused_and_not_redirected(rig: Rig, route: Route) -> None:
    headers = rig.browser() | {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
    is_problem(await rig.ask(route.method, at(route), headers), 403, "xsrf")


@WITH_BODY
@pytest.mark.parametrize("body", [b"{", b"[]", b'"text"', b'{"planted-secret-key": 1}', b"\xff\xfe"])
async def test_a_bad_body_is_explained_without_being_repeated(rig: Rig, route: Route, body: bytes) -> None:
    answer = await rig.ask(route.method, at(route), rig.token(scopes=tuple(SCOPES)), content=body)
    is_problem(answer, 400, "bad_input")
    assert "planted-secret" not in answer.text


@BY_NAME
async def test_a_huge_body_is_refused(rig: Rig, route: Route) -> None:
    headers = rig.token(scopes=tuple(SCOPES))
    answer = await rig.ask(route.method, at(route), headers, content=b"x" * (MAX_BODY + 1))
    is_problem(answer, 413, "too_large")


async def test_a_huge_body_in_pieces_is_refused(rig: Rig) -> None:
    async def pieces() -> object:
        for _ in range(20):
            yield b"x" * (MAX_BODY // 16)

    is_problem(await rig.ask("POST", "/servers", rig.token(), content=pieces()), 413, "too_large")


async def test_what_is_not_there_is_a_problem_too(rig: Rig) -> None:
    is_problem(await rig.ask("GET", "/nothing"), 404, "not_found")
    is_problem(await rig.http.get("/elsewhere"), 404, "not_found")
    is_problem(await rig.ask("GET", "/me/"), 404, "not_found")


async def test_somebody_elses_cluster_is_not_there(rig: Rig) -> None:
    rig.state.clusters.append(
        {"name": "bobs", "site": "here", "environment": "default", "status": "running", "started": 1.0, "person": "bob"}
    )
    for method, path, body in (
        ("GET", "/scaleout/clusters/bobs", None),
        ("DELETE", "/scaleout/clusters/bobs", None),
        ("POST", "/scaleout/clusters/bobs/scale", {"workers": 1}),
    ):
        is_problem(await rig.ask(method, path, rig.token("anna"), json=body), 404, "not_found")
    assert (await rig.ask("GET", "/scaleout/clusters", rig.token("anna"))).json()["items"] == []
    assert (await rig.ask("GET", "/scaleout/clusters/bobs", rig.token("bob"))).status_code == 200


async def test_somebody_elses_server_is_not_in_my_list(rig: Rig) -> None:
    rig.state.server("bob")
    assert (await rig.ask("GET", "/servers", rig.token("anna"))).json()["items"] == []
    rig.state.server("anna")
    await rig.ask("DELETE", "/servers", rig.token("anna"))
    assert list(rig.state.servers) == [("bob", "")]


async def test_only_an_administrator_ends_the_clusters_of_others(rig: Rig) -> None:
    rig.state.clusters.append(
        {"name": "bobs", "site": "here", "environment": "default", "status": "running", "started": 1.0, "person": "bob"}
    )
    is_problem(await rig.ask("POST", "/scaleout/people", rig.token(), json={"name": "bob"}), 403, "forbidden")
    hub = {"Authorization": f"Bearer {rig.runtime.layout.secret('service')}"}
    assert (await rig.ask("GET", "/scaleout/people", hub)).json()["items"] == ["bob"]
    assert (await rig.ask("POST", "/scaleout/people", hub, json={"name": "bob"})).json()["items"] == ["bobs"]


async def test_a_hub_that_is_away_is_said(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = rig.token()
    monkeypatch.setattr("specola.client.hub.PAUSE", 10)
    rig.state.away = True
    answer = await rig.ask("GET", "/me", headers)
    is_problem(answer, 503, "hub")
    assert answer.headers["retry-after"] == "2"
