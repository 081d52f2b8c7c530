"""Who am I, browsers, idempotency, request ids, metrics: the service as its callers see it."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from apirig import API, EVERYTHING, Rig, serving
from specola.core import log
from specola.facility.model import Facility
from specola.http.metrics import REASONS

NAVIGATE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}
FETCH = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
PAGE = "/services/specola/"


async def test_me_says_groups_roles_rights_and_limits(rig: Rig) -> None:
    me = (await rig.ask("GET", "/me", rig.token())).json()
    assert (me["name"], me["full_name"], me["roles"]) == ("anna", "anna", ["user"])
    assert me["groups"] == [{"name": "physics", "roles": ["user"], "why": "token"}]
    assert [(r["what"], r["allowed"], r["why"]) for r in me["rights"]] == [
        ("servers", True, "through the group physics"),
        ("scaleout", True, "through the group physics"),
    ]
    assert me["limits"] == {"memory_gib": None, "cores": None, "workers": 8}


async def test_me_tells_a_roster_from_a_token_and_why_something_is_missing(rig: Rig) -> None:
    rig.state.people["bob"] = ["ops", "physics", "unknown-to-us"]
    me = (await rig.ask("GET", "/me", rig.token("bob", ("custom:specola:identity",)))).json()
    assert {g["name"]: g["why"] for g in me["groups"]} == {"ops": "roster", "physics": "token"}
    assert me["roles"] == ["user", "admin"]
    assert me["rights"][0]["why"] == "this login or token lacks the scope custom:specola:servers:write"
    rig.state.people["bob"] = []
    me = (await rig.ask("GET", "/me", rig.token("bob"))).json()
    assert me["rights"][1] == {
        "what": "scaleout",
        "allowed": False,
        "why": "you are in no group that this facility knows",
    }


async def test_me_says_whose_group_may_use_the_gpus(tmp_path: Path) -> None:
    """Only a facility with GPUs speaks of them."""
    pool = {"actuator": "simulated", "model": "A100-40GB", "groups": ["physics"]}
    facility = Facility.model_validate({"groups": {"physics": {}, "theory": {}}, "gpu": {"pools": {"p": pool}}})
    async with serving(tmp_path, facility) as rig:
        rig.state.people["bob"] = ["theory"]
        found = {}
        for name in ("anna", "bob"):
            rights = (await rig.ask("GET", "/me", rig.token(name))).json()["rights"]
            (found[name],) = [(r["allowed"], r["why"]) for r in rights if r["what"] == "gpu"]
        assert found["anna"] == (True, "through the group physics")
        assert found["bob"] == (False, "no group of yours may use the GPUs of this facility")


async def test_a_revoked_token_is_refused_within_five_seconds(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("specola.http.auth.time", SimpleNamespace(monotonic=lambda: now[0]))
    headers = rig.token()
    assert (await rig.ask("GET", "/me", headers)).status_code == 200
    rig.state.tokens.pop(headers["Authorization"].removeprefix("token "))
    asked = len(rig.state.calls)
    assert (await rig.ask("GET", "/me", headers)).status_code == 200, "remembered"
    assert len(rig.state.calls) == asked
    now[0] += 5.1
    assert (await rig.ask("GET", "/me", headers)).status_code == 401


async def test_health_is_open_and_metrics_are_not(rig: Rig) -> None:
    assert (await rig.http.get(f"{PAGE}healthz")).json() == {"status": "ok"}
    assert (await rig.http.get(f"{PAGE}metrics")).status_code == 401
    assert (await rig.http.get(f"{PAGE}metrics", headers=rig.token())).status_code == 403
    scraper = rig.token("prometheus", ("read:metrics",), "service")
    answer = await rig.http.get(f"{PAGE}metrics", headers=scraper)
    text = answer.text
    assert 'specola_http_errors_total{reason="unauthenticated"} 1.0' in text
    assert 'specola_http_requests_total{route="POST /servers",status="5xx"} 0.0' in text, "created up front"
    assert "anna" not in text
    assert set(re.findall(r'specola_http_errors_total\{reason="(\w+)"', text)) == set(REASONS)


async def test_a_request_id_is_kept_or_made(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "specola.http"):
        mine = await rig.ask("GET", "/me", rig.token() | {"X-Request-ID": "panel-12345"})
    assert mine.headers["x-request-id"] == "panel-12345"
    assert any("GET /me anna" in line for line in caplog.messages)
    other = await rig.ask("GET", "/me", rig.token() | {"X-Request-ID": "x\ty" * 40})
    assert re.fullmatch("[0-9a-f]{16}", other.headers["x-request-id"])


async def test_a_fault_of_ours_says_nothing_about_itself(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_args: object) -> None:
        raise RuntimeError("planted detail")

    monkeypatch.setattr("specola.identity.service.IdentityService.me", broken)
    answer = await rig.ask("GET", "/me", rig.token())
    assert (answer.status_code, answer.json()["reason"]) == (500, "internal")
    assert "planted" not in answer.text
    assert any(r.exc_info and "planted" in str(r.exc_info[1]) for r in caplog.records)


# ---- idempotency


async def test_the_same_key_is_done_once_and_answered_alike(rig: Rig) -> None:
    headers = rig.token() | {"Idempotency-Key": "k1"}
    first = await rig.ask("POST", "/servers", headers, json={"name": ""})
    again = await rig.ask("POST", "/servers", headers, json={"name": ""})
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert [c for c in rig.state.calls if c[0] == "POST"] == [("POST", "/hub/api/users/anna/server")]


async def test_a_key_belongs_to_one_body_and_one_person(rig: Rig) -> None:
    key = {"Idempotency-Key": "k1"}
    headers = rig.token() | key
    await rig.ask("POST", "/servers", headers, json={"name": ""})
    other = await rig.ask("POST", "/servers", headers, json={"name": "b"})
    assert (other.status_code, other.json()["reason"]) == (409, "conflict")
    await rig.ask("POST", "/servers", rig.token("bob") | key, json={"name": ""})
    assert set(rig.state.servers) == {("anna", ""), ("bob", "")}


async def test_what_failed_may_be_tried_again_with_its_key(rig: Rig) -> None:
    headers = rig.token() | {"Idempotency-Key": "k1"}
    rig.state.start_fails = 403
    refused = await rig.ask("POST", "/servers", headers, json={})
    assert (refused.status_code, refused.json()["detail"]) == (403, "You are in no group that may do this.")
    rig.state.start_fails = 0
    assert (await rig.ask("POST", "/servers", headers, json={})).status_code == 202


async def test_two_at_once_with_one_key_are_one(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = rig.token() | {"Idempotency-Key": "k1"}
    begun, let_go = asyncio.Event(), asyncio.Event()

    async def slow(*_args: object) -> None:
        begun.set()
        await let_go.wait()

    monkeypatch.setattr("specola.client.hub.Hub.start", slow)
    monkeypatch.setattr("specola.servers.service.PATIENCE", 120)
    first = asyncio.create_task(rig.ask("POST", "/servers", headers, json={}))
    await begun.wait()
    second = await rig.ask("POST", "/servers", headers, json={})
    assert second.status_code == 409
    let_go.set()
    assert (await first).status_code == 202


@pytest.mark.parametrize("key", ["", "a b", "x" * 129])
async def test_a_useless_key_is_refused(rig: Rig, key: str) -> None:
    answer = await rig.ask("POST", "/servers", rig.token() | {"Idempotency-Key": key}, json={})
    assert answer.status_code == 400


# ---- browsers


async def test_a_browser_without_login_is_sent_to_the_hub(rig: Rig) -> None:
    answer = await rig.http.get(PAGE, headers=NAVIGATE)
    assert answer.status_code == 302
    where = answer.headers["location"]
    assert where.startswith("/hub/api/oauth2/authorize?client_id=service-specola")
    assert "code_challenge_method=S256" in where
    assert (await rig.http.get(PAGE.rstrip("/"), headers=NAVIGATE)).headers["location"] == PAGE


async def test_a_script_that_fetches_a_page_is_not_redirected(rig: Rig) -> None:
    for path in (PAGE, PAGE.rstrip("/")):
        answer = await rig.http.get(path, headers=FETCH)
        assert (answer.status_code, answer.json()["reason"]) == (401, "unauthenticated")


async def test_login_ends_in_a_cookie_for_this_service_alone(rig: Rig) -> None:
    first = await rig.http.get(PAGE, headers=NAVIGATE)
    state = re.search("state=([^&]+)", first.headers["location"])[1]  # type: ignore[index]
    rig.state.codes["c0de"] = rig.state.token("anna")
    done = await rig.http.get(f"{PAGE}oauth_callback?code=c0de&state={state}", headers=NAVIGATE)
    assert (done.status_code, done.headers["location"]) == (302, PAGE)
    cookies = done.headers.get_list("set-cookie")
    ours = next(c for c in cookies if c.startswith("service-specola="))
    assert "HttpOnly" in ours
    assert "Path=/services/specola/" in ours
    page = await rig.http.get(PAGE, headers=NAVIGATE)
    assert "anna" in page.text


async def test_a_forged_callback_is_a_page_and_no_login(rig: Rig) -> None:
    answer = await rig.http.get(f"{PAGE}oauth_callback?code=c0de&state=forged", headers=NAVIGATE)
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("text/html")
    assert "forged" not in answer.text


async def test_the_page_shows_who_where_and_what(rig: Rig) -> None:
    rig.state.people["anna"] = ["physics", "ops"]
    rig.state.server("anna", "two", age=60)
    page = await rig.http.get(PAGE, headers=NAVIGATE | rig.browser())
    assert page.status_code == 200
    for text in (
        "physics",
        "Administration",
        "two",
        "separates nobody from anybody",
        "/user/anna/two",
        "Specola 0.1.0",
    ):
        assert text in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"(src|href)=\"(https?:)?//", page.text), "nothing from outside"


async def test_the_page_is_our_own_proof(rig: Rig) -> None:
    browser = rig.browser()
    page = await rig.http.get(PAGE, headers=NAVIGATE | browser)
    token = re.search('name="xsrf" content="([^"]+)"', page.text)[1]  # type: ignore[index]
    cookie = re.search("_xsrf=[^;]+", page.headers["set-cookie"])[0]  # type: ignore[index]
    both = FETCH | {"Cookie": f"{browser['Cookie']}; {cookie}"}
    rig.http.cookies.clear()
    assert (await rig.ask("GET", "/me", both)).status_code == 403
    assert (await rig.ask("GET", "/me", both | {"X-XSRFToken": "x" * 40})).status_code == 403
    assert (await rig.ask("GET", "/me", both | {"X-XSRFToken": token})).json()["name"] == "anna"
    posted = await rig.ask("POST", "/servers", both | {"X-XSRFToken": token}, json={})
    assert posted.status_code == 202
    stolen = FETCH | {"Cookie": f"{rig.browser('bob')['Cookie']}; {cookie}", "X-XSRFToken": token}
    assert (await rig.ask("GET", "/me", stolen)).status_code == 403, "a proof belongs to one login"


async def test_a_cookie_whose_token_is_gone_is_a_new_login(rig: Rig) -> None:
    browser = rig.browser()
    rig.state.tokens = {k: v for k, v in rig.state.tokens.items() if v.kind == "service"}
    assert (await rig.http.get(PAGE, headers=NAVIGATE | browser)).status_code == 302
    assert (await rig.ask("GET", "/me", FETCH | browser)).status_code == 401


async def test_somebody_without_access_gets_a_clear_page(rig: Rig) -> None:
    answer = await rig.http.get(PAGE, headers=NAVIGATE | rig.browser(scopes=EVERYTHING[1:]))
    assert answer.status_code == 403
    assert "You may not use this facility" in answer.text


async def test_the_page_says_when_the_hub_is_away_and_comes_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specola.client.hub.PAUSE", 10)
    browser = rig.browser()
    rig.state.away = True
    answer = await rig.http.get(PAGE, headers=NAVIGATE | browser)
    assert (answer.status_code, answer.headers["refresh"]) == (503, "3")
    assert "The hub does not answer" in answer.text
    rig.state.away = False
    assert (await rig.http.get(PAGE, headers=NAVIGATE | browser)).status_code == 200
    rig.state.away = True
    known = await rig.http.get(PAGE, headers=NAVIGATE | browser)
    assert known.status_code == 200, "who it is, is still remembered"
    assert "The hub does not answer" in known.text


async def test_somebody_whom_the_hub_forgot_sees_no_servers(rig: Rig) -> None:
    browser = rig.browser()
    await rig.http.get(PAGE, headers=NAVIGATE | browser)
    rig.state.people.pop("anna")
    assert (await rig.http.get(PAGE, headers=NAVIGATE | browser)).status_code == 200


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("start.js", "text/javascript"),
        ("gpu.js", "text/javascript"),
        ("operator.js", "text/javascript"),
        ("start.css", "text/css"),
        ("icon.svg", "image/svg"),
    ],
)
async def test_files_of_the_page_are_kept_by_browsers(rig: Rig, name: str, kind: str) -> None:
    answer = await rig.http.get(f"{PAGE}static/{name}")
    assert answer.headers["content-type"].startswith(kind)
    assert "immutable" in answer.headers["cache-control"]
    assert (await rig.http.get(f"{PAGE}static/../page.py")).status_code == 404


async def test_no_token_is_ever_logged(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    log.setup("service", logging.DEBUG)
    try:
        headers = rig.token()
        await rig.ask("GET", "/me", headers)
        await rig.ask("GET", f"/me?token={headers['Authorization'][6:]}", headers)
        await rig.http.get(PAGE, headers=NAVIGATE | rig.browser())
    finally:
        logging.getLogger().handlers.clear()
        logging.getLogger().setLevel(logging.WARNING)
    written = capsys.readouterr().err
    assert "[req=" in written
    for token in rig.state.tokens:
        assert token not in written
    assert API
