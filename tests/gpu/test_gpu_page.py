"""The operators' page of the GPUs, and what the start page is told of them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from specola.gpu.api import HeldBy
from specola.server.gpu_page import ago, use
from specola.server.page import PREFIX

from gpu.test_routes import OPERATOR, Gpus, gpus_at, start

NAVIGATE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}
FETCH = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
NOW = datetime(2026, 11, 21, 15, tzinfo=UTC)


@pytest.fixture
async def gpus(tmp_path: Path) -> AsyncIterator[Gpus]:
    async with gpus_at(tmp_path) as made:
        yield made


async def page(gpus: Gpus, path: str = "gpu", who: str = "dora", **more: str) -> httpx.Response:
    scopes = {"scopes": OPERATOR} if who == "dora" else {}
    return await gpus.rig.http.get(PREFIX + path, headers={**NAVIGATE, **gpus.rig.browser(who, **scopes), **more})


def text(answer: httpx.Response) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", answer.text).split())


async def test_operators_see_who_holds_what_and_who_waits(gpus: Gpus) -> None:
    lease = await gpus.lease("anna", gib=20)
    await gpus.ask("POST", f"leases/{lease['id']}/kernel", json=start(lease))
    await gpus.ask("POST", f"leases/{lease['id']}/confirm", json={"token": lease["token"]})
    await gpus.ask("PUT", "drains/a100/" + await drained(gpus), "dora", json={"reason": "a new driver"})
    for _ in range(2):
        await gpus.ask("POST", "requests", "anna", json={"shape": "7g"})
    await gpus.go_round()
    answer = await page(gpus)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    seen = text(answer)
    assert "anna physics 3g a100 #0 active" in seen
    assert "(not measured yet)" in seen or "(GPU counters)" in seen or "(kernel state)" in seen
    assert "a new driver Use again" in seen
    assert "How many fit now, of those that would if the free room lay together" in seen
    assert "7g.40gb" in seen
    assert "simulated" in seen
    assert 'aria-label="GPU 1: drained, free' in answer.text


async def drained(gpus: Gpus) -> str:
    """The second GPU of the pool."""
    offers: dict[str, Any] = (await gpus.ask("GET", "offers")).json()
    return str(offers["pools"][0]["gpus"][1]["id"])


async def test_others_do_not(gpus: Gpus) -> None:
    assert (await page(gpus, who="anna")).status_code == 403
    assert "anna" not in (await page(gpus, who="anna")).text.split("<main")[1]
    stranger = await gpus.rig.http.get(PREFIX + "gpu", headers=NAVIGATE)
    assert stranger.status_code == 302
    assert (await gpus.rig.http.get(PREFIX + "gpu", headers=FETCH)).status_code == 401


async def test_the_page_fetches_itself_with_its_own_word(gpus: Gpus) -> None:
    browser = gpus.rig.browser("dora", OPERATOR)["Cookie"]
    first = await gpus.rig.http.get(PREFIX + "gpu", headers={**NAVIGATE, "Cookie": browser})
    (word,) = re.findall(r'name="xsrf" content="([^"]+)"', first.text)
    cookies = "; ".join(f"{name}={value}" for name, value in first.cookies.items())
    headers = {**FETCH, "Cookie": f"{browser}; {cookies}", "X-XSRFToken": word}
    again = await gpus.rig.http.get(PREFIX + "gpu", headers=headers)
    assert again.status_code == 200, again.text
    assert 'id="live"' in again.text


async def test_a_facility_without_gpus_says_how_to_have_some(tmp_path: Path) -> None:
    async with gpus_at(tmp_path, {"groups": {"ops": {"roles": ["admin"]}}}) as none:
        assert "declares no pool under" in (await page(none)).text


async def test_the_start_page_has_gpus_for_those_who_may_ask(gpus: Gpus) -> None:
    answer = await page(gpus, "", "anna")
    (state,) = re.findall(r'<script type="application/json" id="state">(.*?)</script>', answer.text)
    script = json.loads(state)["gpu"]
    assert (await gpus.rig.http.get(script)).headers["content-type"].startswith("text/javascript")
    assert 'id="gpus"' in answer.text
    assert "specola gpu request" in answer.text
    assert f'href="{PREFIX}gpu"' not in answer.text
    assert f'href="{PREFIX}gpu"' in (await page(gpus, "", "dora")).text


async def test_and_none_where_there_are_none(tmp_path: Path) -> None:
    async with gpus_at(tmp_path, {"groups": {"physics": {}}}) as none:
        answer = await page(none, "", "anna")
        assert 'id="gpus"' not in answer.text


@pytest.mark.parametrize(("seconds", "words"), [(9, "9 s"), (-90, "1 min"), (7500, "2 h 5 min")])
def test_times_are_said_in_their_largest_units(seconds: int, words: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW) == words


def test_idle_is_said_with_its_signal() -> None:
    held = HeldBy(
        lease="l",
        person="anna",
        group="g",
        pool="p",
        gpu=None,
        start=None,
        shape="3g",
        state="active",
        since=NOW,
        expires=None,
        idle_since=NOW - timedelta(minutes=12),
        signal="kernel",
    )
    assert use(held, NOW) == "idle for 12 min (kernel state)"
    assert use(held.model_copy(update={"idle_since": None, "signal": "gpu"}), NOW) == "in use (GPU counters)"
