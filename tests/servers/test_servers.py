"""Servers through the API, and the loop that warns and stops."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import sqlalchemy as sa
from apirig import Rig
from fakehub import SERVICE_TOKEN
from specola.client.hub import Hub
from specola.core.database import activity, audit
from specola.core.errors import Forbidden, Unavailable
from specola.core.events import Bus
from specola.http.metrics import Metrics
from specola.servers.culling import Limits
from specola.servers.model import Activity
from specola.servers.service import ServersService

HOUR = 3600.0
LIMITS = Limits(HOUR, 300)


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class Setting:
    """A servers service over the fake hub, with a clock of its own."""

    def __init__(self, rig: Rig, limits: Limits = LIMITS) -> None:
        self.rig = rig
        self.clock = Clock()
        self.bus = Bus()
        self.hub = Hub(rig.runtime.hub_api_url, SERVICE_TOKEN, patience=0.1)
        self.events = self.bus.subscribe("anna")
        self.limits = limits
        self.service = self.again()

    def again(self) -> ServersService:
        """The service as after a restart."""
        engine, metrics = self.rig.service.engine, Metrics()
        return ServersService(self.hub, engine, self.bus, metrics, self.limits, clock=self.clock)

    def seen(self) -> list[tuple[str, dict[str, Any]]]:
        found = [(e.type, e.data) for e in self.events.queue]
        self.events.queue.clear()
        return found

    def audit(self) -> list[str]:
        with self.rig.service.engine.connect() as connection:
            return list(connection.scalars(sa.select(audit.c.what)))


@pytest.fixture
async def here(rig: Rig) -> Any:
    setting = Setting(rig)
    yield setting
    await setting.hub.close()


IDLE = Activity(kernels_busy=0, kernels_connected=0)
BUSY = Activity(kernels_busy=1, kernels_connected=0)


async def test_an_idle_server_is_warned_once_then_stopped_and_both_are_said(here: Setting) -> None:
    here.rig.state.server("anna", age=5 * HOUR, idle=56 * 60)
    await here.service.sweep()
    await here.service.sweep()
    ((kind, data),) = here.seen()
    assert (kind, data["server"], data["why"]) == ("servers.culling", "", "nothing has happened in it for a long time")
    (mine,) = (await here.service.mine("anna")).items
    assert mine.warned
    assert mine.stops_at is not None
    here.clock.now += 241
    await here.service.sweep()
    assert here.seen() == [("servers.culled", {"server": "", "why": data["why"]})]
    assert here.rig.state.servers == {}
    assert here.audit() == ["servers.cull"]


async def test_activity_after_the_warning_takes_it_back(here: Setting) -> None:
    here.rig.state.server("anna", age=5 * HOUR, idle=56 * 60)
    await here.service.sweep()
    await here.service.report("anna", BUSY)
    await here.service.sweep()
    assert [data["at"] is None for _, data in here.seen()] == [False, True]
    (mine,) = (await here.service.mine("anna")).items
    assert (mine.warned, mine.busy_with, mine.stops_at) == (False, "a running cell", None)


async def test_a_long_cell_keeps_a_server_that_the_hub_thinks_idle(here: Setting) -> None:
    here.rig.state.server("anna", age=50 * HOUR, idle=40 * HOUR)
    for _ in range(3):
        await here.service.report("anna", BUSY)
        here.clock.now += 60
        await here.service.sweep()
    assert here.seen() == []


async def test_after_the_last_cell_the_whole_limit_runs(here: Setting) -> None:
    here.rig.state.server("anna", age=50 * HOUR, idle=0)
    await here.service.report("anna", BUSY)
    here.clock.now += 50 * 60
    await here.service.report("anna", IDLE)
    await here.service.sweep()
    assert here.seen() == []
    here.clock.now += 9 * 60
    await here.service.report("anna", IDLE)
    await here.service.sweep()
    assert [kind for kind, _ in here.seen()] == ["servers.culling"]
    here.clock.now += 61
    await here.service.report("anna", IDLE)
    await here.service.sweep()
    assert here.rig.state.servers == {}


async def test_a_service_that_was_away_gives_servers_time_to_report(here: Setting) -> None:
    """A cell may have run all the while: nobody is stopped for our own absence."""
    here.rig.state.server("anna", age=50 * HOUR, idle=40 * HOUR)
    await here.service.report("anna", BUSY)
    here.clock.now += 5 * HOUR
    here.service = here.again()
    await here.service.sweep()
    assert here.seen() == []
    assert here.rig.state.servers
    here.clock.now += HOUR
    await here.service.sweep()
    assert here.rig.state.servers == {}, "it had an hour to report and did not"


async def test_a_stop_that_was_interrupted_is_finished_after_a_restart(here: Setting) -> None:
    here.rig.state.server("anna", age=5 * HOUR, idle=2 * HOUR)
    here.rig.state.tokens[SERVICE_TOKEN].scopes = ("list:users", "read:users", "read:servers")
    with pytest.raises(Forbidden):
        await here.service.sweep()
    with here.rig.service.engine.connect() as connection:
        assert list(connection.scalars(sa.select(activity.c.stopping))) == ["idle"]
    here.rig.state.tokens[SERVICE_TOKEN].scopes += ("delete:servers",)
    await here.again().sweep()
    assert here.rig.state.servers == {}


async def test_what_was_decided_about_an_earlier_server_does_not_touch_the_next(here: Setting) -> None:
    here.rig.state.server("anna", age=5 * HOUR, idle=2 * HOUR)
    here.rig.state.tokens[SERVICE_TOKEN].scopes = ("list:users", "read:users", "read:servers")
    with pytest.raises(Forbidden):
        await here.service.sweep()
    here.rig.state.tokens[SERVICE_TOKEN].scopes += ("delete:servers",)
    here.rig.state.server("anna", age=5)
    await here.service.sweep()
    assert ("anna", "") in here.rig.state.servers


async def test_rows_of_servers_that_are_gone_are_forgotten(here: Setting) -> None:
    await here.service.report("anna", IDLE)
    await here.service.sweep()
    with here.rig.service.engine.connect() as connection:
        assert list(connection.execute(activity.select())) == []


async def test_servers_that_start_or_stop_are_left_alone(here: Setting) -> None:
    here.rig.state.server("anna", age=9 * HOUR, idle=9 * HOUR, ready=False, pending="spawn")
    here.rig.state.server("anna", "b", age=9 * HOUR, idle=9 * HOUR, pending="stop")
    await here.service.sweep()
    assert len(here.rig.state.servers) == 2
    states = {s.name: s.state for s in (await here.service.mine("anna")).items}
    assert states == {"": "starting", "b": "stopping"}


async def test_a_longest_life_ends_a_busy_server_after_a_warning(rig: Rig) -> None:
    here = Setting(rig, Limits(HOUR, 300, 10 * HOUR))
    rig.state.server("anna", age=10 * HOUR - 200)
    await here.service.report("anna", BUSY)
    await here.service.sweep()
    assert here.seen()[0][1]["why"] == "it has reached its longest life"
    (mine,) = (await here.service.mine("anna")).items
    assert mine.stops_at is not None
    here.clock.now += 201
    await here.service.report("anna", BUSY)
    await here.service.sweep()
    assert rig.state.servers == {}
    await here.hub.close()


async def test_a_hub_without_times_counts_from_when_we_came(here: Setting) -> None:
    here.rig.state.server("anna", started=None, last_activity=None)
    await here.service.sweep()
    assert here.seen() == []


async def test_many_people_are_read_page_by_page(here: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(205):
        here.rig.state.people[f"p{n:03}"] = []
        here.rig.state.server(f"p{n:03}")
    assert len(await here.hub.active_users()) == 205


async def test_how_full_a_home_was_is_known_when_its_server_is_gone(here: Setting) -> None:
    """The service cannot look into a home: it keeps what a server saw."""
    assert (await here.service.mine("anna")).home is None
    await here.service.report("anna", IDLE)
    assert here.service.home("anna") is None
    for used in (5, 7):
        await here.service.report("anna", Activity(kernels_busy=0, kernels_connected=0, home_used=used))
    await here.service.sweep()
    mine = await here.service.mine("anna")
    assert mine.items == ()
    assert mine.home is not None
    assert mine.home.used == 7
    assert here.service.home("bruno") is None


# ---- through the API


async def test_start_stop_and_list(rig: Rig) -> None:
    headers = rig.token()
    assert (await rig.ask("GET", "/servers", headers)).json() == {"items": [], "home": None, "next": None}
    started = await rig.ask("POST", "/servers", headers, json={"name": "big.one"})
    assert (started.status_code, started.json()["items"][0]["state"]) == (202, "starting")
    rig.state.server("anna", "big.one")
    again = await rig.ask("POST", "/servers", headers, json={"name": "big.one"})
    assert again.status_code == 202, "what runs already is fine"
    assert (await rig.ask("DELETE", "/servers?name=big.one", headers)).json()["items"] == []
    assert (await rig.ask("DELETE", "/servers?name=big.one", headers)).status_code == 202, "twice is once"


async def test_a_stop_that_must_wait_is_said(rig: Rig) -> None:
    rig.state.server("anna", ready=False, pending="spawn")
    answer = await rig.ask("DELETE", "/servers", rig.token())
    assert (answer.status_code, answer.json()["reason"]) == (409, "hub_conflict")
    assert "pending spawn" in answer.json()["detail"]


async def test_a_failed_start_has_the_spawner_s_reason(rig: Rig) -> None:
    rig.state.start_fails = 500
    rig.state.progress = [{"progress": 100, "failed": True, "message": "Spawn failed: the home is full"}]
    answer = await rig.ask("POST", "/servers", rig.token(), json={})
    assert (answer.status_code, answer.json()["reason"], answer.json()["detail"]) == (503, "spawn", "the home is full")
    rig.state.progress = []
    answer = await rig.ask("POST", "/servers", rig.token(), json={})
    assert answer.json()["detail"] == "You are in no group that may do this."
    rig.state.progress = [{"progress": 10, "message": "x"}]
    assert (await rig.ask("POST", "/servers", rig.token(), json={})).status_code == 503


async def test_a_start_that_the_hub_takes_its_time_over_is_answered_at_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def slow(*_args: object) -> None:
        await asyncio.sleep(0.3)
        raise Unavailable("too late to be told")

    monkeypatch.setattr("specola.servers.service.PATIENCE", 0.05)
    monkeypatch.setattr("specola.client.hub.Hub.start", slow)
    assert (await rig.ask("POST", "/servers", rig.token(), json={})).status_code == 202
    async with asyncio.timeout(60):
        while "too late to be told" not in caplog.text:  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0.02)


async def test_a_report_is_kept_for_its_own_person(rig: Rig) -> None:
    rig.state.server("anna")
    rig.state.server("bob")
    body = {"server": "", "kernels_busy": 2, "kernels_connected": 1, "clusters": 0}
    assert (await rig.ask("POST", "/servers/activity", rig.token(), json=body)).status_code == 204
    assert (await rig.ask("GET", "/servers", rig.token())).json()["items"][0]["busy_with"] == "a running cell"
    assert (await rig.ask("GET", "/servers", rig.token("bob"))).json()["items"][0]["busy_with"] is None


async def test_a_service_without_rights_at_the_hub_says_so(rig: Rig) -> None:
    rig.state.tokens[SERVICE_TOKEN].scopes = ()
    answer = await rig.ask("POST", "/servers", rig.token(), json={})
    assert (answer.status_code, answer.json()["reason"]) == (403, "hub_refused")
    assert (await rig.ask("GET", "/servers", rig.token())).json()["reason"] == "hub_refused"


@pytest.mark.parametrize("name", ["a/b", "a b", "x" * 201, "../x", "..", "."])
async def test_a_crooked_server_name_is_refused(rig: Rig, name: str) -> None:
    assert (await rig.ask("POST", "/servers", rig.token(), json={"name": name})).status_code == 400


@pytest.mark.parametrize("name", ["..", ".", "%2e%2e", "../server", "a/b", ".hidden", "a b"])
async def test_no_name_of_a_server_leads_elsewhere_at_the_hub(rig: Rig, name: str) -> None:
    """`DELETE /servers?name=..` must not become the deletion of the person."""
    for method, path in (("DELETE", "/servers"), ("GET", "/servers/progress")):
        answer = await rig.ask(method, path, rig.token(), params={"name": name})
        assert (answer.status_code, answer.json()["reason"]) == (400, "bad_input")


async def test_a_grant_goes_to_the_hub_and_the_next_start_has_none(rig: Rig) -> None:
    """The options of a start are always said: of an empty body the hub would take those of the last one."""
    where, key = rig.token(), ("anna", "")
    answer = await rig.ask("POST", "/servers", where, json={"gpu": "g" * 32})
    assert answer.status_code == 202, answer.text
    assert rig.state.options[key] == {"gpu": "g" * 32}
    del rig.state.servers[key]
    assert (await rig.ask("POST", "/servers", where, json={})).status_code == 202
    assert rig.state.options[key] == {}
    assert (await rig.ask("POST", "/servers", where, json={"gpu": ""})).status_code == 400
    with rig.service.engine.connect() as connection:
        assert "g" * 32 not in str(connection.execute(sa.select(audit)).all())
