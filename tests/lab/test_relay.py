"""The relay: what passes, what does not, and how failures look."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest
from lab.conftest import Lab, serve
from lab.fakeapi import TOKEN, until
from specola_lab import settings
from yarl import URL


async def test_an_answer_of_the_facility_reaches_the_browser(lab: Lab) -> None:
    async with lab.browser.get(lab.url + "specola/api/v1/me", headers={"X-Request-ID": "abc-1"}) as answer:
        assert answer.status == 200
        assert (await answer.json())["name"] == "anna"
        assert answer.headers["X-Request-ID"] == "abc-1"
    arrived = lab.facility.requests[-1]
    assert arrived.headers["X-Request-Id"] == "abc-1"
    assert arrived.headers["Authorization"] == f"token {TOKEN}"
    assert "Cookie" not in arrived.headers


async def test_a_request_id_that_is_none_is_replaced(lab: Lab) -> None:
    async with lab.browser.get(lab.url + "specola/api/v1/me", headers={"X-Request-ID": "x y<z>"}) as answer:
        assert len(answer.headers["X-Request-ID"]) == 32


async def test_a_change_passes_with_its_key_and_its_refusal(lab: Lab) -> None:
    url = lab.url + "specola/api/v1/scaleout/clusters"
    async with lab.browser.post(url, json={"site": "", "workers": 2}, headers={"Idempotency-Key": "k1"}) as answer:
        assert answer.status == 202
        name = (await answer.json())["name"]
    assert lab.facility.requests[-1].headers["Idempotency-Key"] == "k1"
    async with lab.browser.post(url, json={"site": "", "workers": 99}) as answer:
        assert answer.status == 422
        assert answer.content_type == "application/problem+json"
        assert "8 workers" in (await answer.json())["detail"]
    await until(lambda: lab.facility.clusters[name]["status"] == "running")
    async with lab.browser.delete(f"{url}/{name}") as answer:
        assert answer.status == 204


ESCAPES = ["../../hub/api", "..%2f..%2fhub", "a//b", "a/.hidden", "a/%2e%2e/b", "", "a%00b", "@x"]


@pytest.mark.parametrize("path", ESCAPES)
async def test_a_path_that_leaves_the_api_is_refused(lab: Lab, path: str) -> None:
    async with lab.browser.get(URL(lab.url + "specola/api/v1/" + path, encoded=True)) as answer:
        assert answer.status in (404, 400)
    assert not [one for one in lab.facility.requests if not one.path.endswith("/activity")]


async def test_nobody_without_a_login_passes(lab: Lab) -> None:
    async with aiohttp.ClientSession() as stranger, stranger.get(lab.url + "specola/api/v1/me") as answer:
        assert answer.status == 403
        assert answer.content_type == "application/problem+json"
    assert not [one for one in lab.facility.requests if one.path.endswith("/me")]


async def test_a_browser_without_the_xsrf_token_changes_nothing(lab: Lab) -> None:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        async with browser.get(lab.url + "login?token=login-token"):
            pass
        async with browser.post(lab.url + "specola/api/v1/scaleout/clusters", json={}) as answer:
            assert answer.status == 403
    assert not lab.facility.clusters


async def test_other_methods_are_refused(lab: Lab) -> None:
    async with lab.browser.request("PROPFIND", lab.url + "specola/api/v1/me") as answer:
        assert answer.status == 405


async def test_a_redirect_is_not_followed(lab: Lab) -> None:
    async with lab.browser.get(lab.url + "specola/api/v1/moved") as answer:
        assert answer.status == 502
        assert (await answer.json())["reason"] == "unavailable"


async def test_a_facility_that_is_away_is_said_so(lab: Lab) -> None:
    await lab.facility.stop()
    async with lab.browser.get(lab.url + "specola/api/v1/me") as answer:
        problem = await answer.json()
    assert answer.status == 503
    assert answer.content_type == "application/problem+json"
    assert problem["title"] == "The facility service does not answer"
    assert TOKEN not in json.dumps(problem)


async def test_events_arrive_as_they_happen_and_resume(lab: Lab) -> None:
    stream = {"Accept": "text/event-stream"}
    async with lab.browser.get(lab.url + "specola/api/v1/events", headers=stream) as answer:
        assert answer.content_type == "text/event-stream"
        await until(lambda: len(lab.facility.listeners) == 1)
        lab.facility.publish("notice", {"n": 1})
        lines = [await asyncio.wait_for(answer.content.readline(), 60) for _ in range(4)]
        assert json.loads(lines[3][6:]) == {"type": "notice", "data": {"n": 1}}
    await until(lambda: not lab.facility.listeners)
    lab.facility.publish("notice", {"n": 2})
    async with lab.browser.get(lab.url + "specola/api/v1/events", headers=stream | {"Last-Event-ID": "1"}) as answer:
        lines = [await asyncio.wait_for(answer.content.readline(), 60) for _ in range(4)]
        assert json.loads(lines[3][6:])["data"] == {"n": 2}


async def test_a_stream_that_the_facility_ends_is_ended(lab: Lab) -> None:
    async with lab.browser.get(lab.url + "specola/api/v1/events", headers={"Accept": "text/event-stream"}) as answer:
        await until(lambda: len(lab.facility.listeners) == 1)
        await lab.facility.stop()
        assert b"retry" in await asyncio.wait_for(answer.content.read(), 60)


async def test_what_polls_is_no_activity(lab: Lab) -> None:
    async with lab.browser.get(lab.url + "specola/api/v1/me"):
        pass
    assert "api_last_activity" not in lab.app.web_app.settings


async def test_without_a_facility_the_server_runs_and_says_why(home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPECOLA_API_URL", raising=False)
    app, url = await serve(home)
    async with (
        aiohttp.ClientSession(headers={"Authorization": "token login-token"}) as browser,
        browser.get(url + "specola/api/v1/me") as answer,
    ):
        assert answer.status == 503
    await app.cleanup_kernels()
    app.http_server.stop()


def test_the_token_is_in_no_repr() -> None:
    told = {"SPECOLA_API_URL": "http://x/v1", "JUPYTERHUB_API_TOKEN": "planted", "HOME": "/h"}
    here = settings.from_environment(told)
    assert "planted" not in repr(here)
    assert here.api_url == "http://x/v1/"
