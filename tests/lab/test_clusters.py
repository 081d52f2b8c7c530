"""Workers and dashboards come from a unix socket in the own home, for the owner only."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from lab.conftest import Lab
from lab.fakeapi import bind_deep
from specola_lab import schedulers
from yarl import URL


@pytest.fixture
def dashboard(lab: Lab) -> str:
    lab.facility.serve_scheduler("abc.1")
    return lab.url + "specola/clusters/abc.1/"


async def test_live_workers(lab: Lab, dashboard: str) -> None:
    async with lab.browser.get(dashboard + "workers") as answer:
        assert answer.status == 200
        assert (await answer.json())["totals"]["workers"] == 2


@pytest.mark.parametrize("name", ["none", "..", "ABC", "a%2f..%2fb", "-", "a" * 121])
async def test_a_cluster_that_is_not_here_is_404(lab: Lab, name: str) -> None:
    for rest in ("workers", "dashboard/status"):
        async with lab.browser.get(URL(f"{lab.url}specola/clusters/{name}/{rest}", encoded=True)) as answer:
            assert answer.status == 404


async def test_a_scheduler_that_died_is_503(lab: Lab) -> None:
    folder = lab.home / ".specola" / "cluster.dead.scheduler"
    folder.mkdir(parents=True)
    bind_deep(folder / "http.sock").close()
    async with lab.browser.get(lab.url + "specola/clusters/dead/workers") as answer:
        assert answer.status == 503
        assert (await answer.json())["reason"] == "unavailable"
    async with lab.browser.get(lab.url + "specola/clusters/dead/dashboard/status") as answer:
        assert answer.status == 503
    with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
        await lab.browser.ws_connect(lab.url + "specola/clusters/dead/dashboard/status/ws")


async def test_a_page_comes_without_cookies_in_either_direction(lab: Lab, dashboard: str) -> None:
    asked = {"Cookie": "secret=1", "Accept-Language": "it"}
    async with lab.browser.get(dashboard + "dashboard/status?a=1&b=%20", headers=asked) as answer:
        assert answer.status == 200
        seen = await answer.json()
        assert "evil" not in str(answer.headers.getall("Set-Cookie", []))
    assert (seen["path"], seen["query"]) == ("status", "a=1&b=%20")
    assert seen["headers"]["Accept-Language"] == "it"
    assert not {"Cookie", "Authorization"} & set(seen["headers"])


async def test_head_and_redirects_stay_below(lab: Lab, dashboard: str) -> None:
    async with lab.browser.get(dashboard + "dashboard/", allow_redirects=False) as answer:
        assert answer.headers["Location"] == "/specola/clusters/abc.1/dashboard/status"
    async with lab.browser.head(dashboard + "dashboard/status") as answer:
        assert answer.status == 200


async def test_nothing_can_be_changed_through_a_dashboard(lab: Lab, dashboard: str) -> None:
    async with lab.browser.post(dashboard + "dashboard/api/v1/retire_workers", json={}) as answer:
        assert answer.status == 405


async def test_a_websocket_is_passed_with_its_subprotocol(lab: Lab, dashboard: str) -> None:
    async with lab.browser.ws_connect(dashboard + "dashboard/status/ws", protocols=["bokeh", "tok"]) as ws:
        assert ws.protocol == "bokeh"
        await ws.send_str("hello")
        assert (await ws.receive()).data == "hello"
        await ws.send_bytes(b"\x00\x01")
        assert (await ws.receive()).data == b"\x00\x01"
        await ws.send_str("bye")
        assert (await ws.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING)


@pytest.mark.parametrize("rest", ["workers", "dashboard/status"])
async def test_nobody_without_a_login(lab: Lab, dashboard: str, rest: str) -> None:
    async with aiohttp.ClientSession() as stranger:
        async with stranger.get(dashboard + rest, allow_redirects=False) as answer:
            assert answer.status in (302, 403)
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await stranger.ws_connect(dashboard + "dashboard/status/ws")


async def test_a_page_of_another_origin_gets_no_websocket(lab: Lab, dashboard: str) -> None:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        async with browser.get(lab.url + "login?token=login-token"):
            pass
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await browser.ws_connect(dashboard + "dashboard/status/ws", headers={"Origin": "http://evil.example"})


async def test_a_deep_home_is_no_obstacle(tmp_path: Path) -> None:
    """The kernel takes 107 bytes for a socket's path."""
    deep = tmp_path / ("d" * 100)
    folder = deep / ".specola" / "cluster.x.scheduler"
    folder.mkdir(parents=True)
    listener = bind_deep(folder / "http.sock")
    found = schedulers.socket_of(deep, "x")
    assert found is not None
    assert schedulers.count(deep) == 1
    async with schedulers.session(found, 0.2) as client:
        with pytest.raises(TimeoutError):
            await client.get("http://scheduler/")
    listener.close()
