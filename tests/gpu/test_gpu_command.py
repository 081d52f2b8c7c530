"""`specola gpu`: a person asks and holds, an operator looks and drains; over the real service and simulated cards."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from apirig import API, Rig, serving
from click.testing import CliRunner, Result
from specola.cli import asking, gpu, gpu_desk, gpu_layout, main
from specola.core.errors import StateError
from specola.facility.model import Facility
from specola.facility.runtime import addresses_file
from specola.gpu.store import Record, Store

FACILITY = {
    "groups": {"physics": {"gpu": {"max_slots": 8}}, "ops": {"roles": ["admin"]}},
    "gpu": {"pools": {"a100": {"actuator": "simulated", "model": "A100-40GB", "groups": ["physics", "ops"]}}},
}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A service whose GPU loop runs, with the state directory that an operator's command needs."""
    async with serving(tmp_path, Facility.model_validate(FACILITY)) as running:
        layout = running.runtime.layout
        addresses_file(layout).write_text(running.runtime.addresses.model_dump_json())
        layout.facility_file.write_text(json.dumps(FACILITY))
        for loop in running.loops:
            if loop.name == "gpu":
                loop.start()
        yield running


class Asks:
    """`specola gpu` as a person, or as the operator."""

    def __init__(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rig = rig
        self.set = monkeypatch.setenv

    async def person(self, *words: str, name: str = "anna") -> Result:
        self.set(asking.URL, f"http://127.0.0.1:{self.rig.runtime.ports.service}{API}/")
        self.set(asking.TOKEN, self.rig.state.token(name))
        return await asyncio.to_thread(CliRunner().invoke, main, ["gpu", *words])

    async def operator(self, *words: str) -> Result:
        more = ["--state", str(self.rig.runtime.layout.state)]
        return await asyncio.to_thread(CliRunner().invoke, main, ["gpu", *words, *more])

    async def json(self, *words: str) -> Any:
        return json.loads((await self.person(*words, "--json")).output)

    async def granted(self, *words: str) -> dict[str, Any]:
        """Ask, wait, and answer the lease."""
        shown = await self.person("request", *words, "--wait")
        assert shown.exit_code == 0, shown.output
        return next(one for one in (await self.json("leases"))["items"] if one["state"] == "offered")


@pytest.fixture
def asks(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Asks:
    monkeypatch.setattr(gpu, "LOOK_EVERY", 0.05)
    return Asks(rig, monkeypatch)


async def test_offers_are_a_table_and_say_what_is_simulated(asks: Asks) -> None:
    shown = await asks.person("offers")
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert lines[0] == "a100: A100-40GB (simulated)"
    assert lines[1].split() == ["size", "shape", "profile", "of", "a", "GPU", "free", "wait"]
    row = next(line.split() for line in lines if " 3g " in line)
    assert row[2:5] == ["3g", "3g.20gb", "4/8"]
    assert "2 of 2" in next(line for line in lines if " 3g " in line)
    assert "physics uses 0/8 of 8/8; guaranteed 0/8; a lease lasts at most 8 h" in lines[-1]
    assert (await asks.json("offers"))["pools"][0]["simulated"] is True


async def test_a_pool_that_is_closed_to_somebody_says_to_whom_it_is_open(asks: Asks) -> None:
    asks.rig.state.people["anna"] = []
    assert "a100: A100-40GB (simulated): It is open to: physics, ops." in (await asks.person("offers")).output


async def test_a_facility_without_gpus_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path) as rig:
        asks = Asks(rig, monkeypatch)
        assert (await asks.person("offers")).output.startswith("There are no GPUs here.\n")


async def test_a_slice_is_asked_for_granted_listed_and_given_back(asks: Asks) -> None:
    """The whole life of a request on the command line, without a kernel."""
    shown = await asks.person("request", "20", "--for", "90 min", "--wait")
    assert shown.exit_code == 0, shown.output
    assert "granted" in shown.output.splitlines()[-1]
    listed = (await asks.person("leases")).output.splitlines()
    assert listed[0].split() == ["lease", "state", "size", "where", "for", "left"]
    lease, state, *_ = listed[1].split()
    assert state == "offered"
    assert "a100" in listed[1]
    assert "3g.20gb (simulated)" in listed[1]
    refused = await asks.person("renew", lease, "--for", "1 h")
    assert refused.exit_code == 2
    assert "Only a lease that is in use can be renewed" in refused.output
    released = await asks.person("release", lease)
    assert released.exit_code == 0, released.output
    assert released.output.startswith(f"{lease} ")

    async def gone() -> bool:
        return (await asks.person("leases")).output == "You hold no GPU.\n"

    limit = time.monotonic() + 20
    while not await gone():
        assert time.monotonic() < limit
    assert lease in (await asks.person("leases", "--all")).output
    assert "granted" not in (await asks.person("requests")).output


async def test_who_waits_sees_the_place_and_can_stop_waiting(asks: Asks) -> None:
    """The first has the whole card; the second is next."""
    asks.rig.state.people |= {"bob": ["ops"], "carla": ["ops"]}
    await asks.granted("40")
    asked = await asks.person("request", "5", "--for", "2h", "--or", "1gx2", "--pool", "a100", name="bob")
    assert asked.exit_code == 0, asked.output
    number = asked.output.split()[0]
    listed = (await asks.person("requests", name="bob")).output.splitlines()
    assert listed[0].split() == ["request", "state", "size", "for", "position", "wait"]
    assert listed[1].split()[:2] == [number, "queued"]
    assert "2 h" in listed[1]
    overview = (await asks.operator("overview")).output
    assert "1 wait." in overview
    assert number in overview
    assert (await asks.person("cancel", number)).output == "specola: There is no such request\n"
    assert (await asks.person("cancel", number, name="bob")).output == f"{number} cancelled: You cancelled it.\n"
    assert (await asks.person("requests", name="carla")).output == "You have no requests.\n"


async def test_what_can_never_be_had_is_said_with_what_could(asks: Asks) -> None:
    refused = await asks.person("request", "500")
    assert refused.exit_code == 2
    assert refused.output.startswith("specola: No GPU here is that large")
    refused = await asks.person("request", "--shape", "9g")
    assert "There are: 1g" in refused.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("request",), "Give either a size"),
        (("request", "20", "--shape", "3g"), "Give either a size"),
        (("request", "much"), "a size is a number of GB"),
        (("request", "20", "--for", "a while"), "a duration is a number of minutes"),
        (("release", "../me"), "That is no id"),
        (("renew", "a b"), "That is no id"),
        (("drain", "a100", "../x"), "lists pools and GPUs"),
        (("drain", "", "x"), "lists pools and GPUs"),
    ],
)
async def test_what_cannot_be_meant_is_not_sent(asks: Asks, words: tuple[str, ...], said: str) -> None:
    asks.rig.state.calls.clear()
    shown = await asks.person(*words)
    assert shown.exit_code == 2
    assert said in " ".join(shown.output.split())
    assert asks.rig.state.calls == []


async def test_options_of_a_request_reach_the_service(asks: Asks) -> None:
    found = await asks.json("request", "5", "--notebook", "fit.ipynb", "--group", "physics")
    assert (found["on_grant"], found["notebook"], found["group"]) == ("notebook", "fit.ipynb", "physics")
    found = await asks.json("request", "--shape", "1g", "--server", "--may-be-reclaimed")
    assert (found["server"], found["wants"][0]["shape"]) == (True, "1g")


async def test_a_course_is_planned_without_being_reserved(asks: Asks) -> None:
    """40 seats of which 39 are taken with a probability of 99 %: 6 GPUs of 7 slices."""
    course = ["plan", "--pool", "a100", "--shape", "1g", "--seats", "40"]
    planned = await asks.operator(*course, "--start", "2027-01-11 09:00", "--end", "2027-01-11T11:00+01:00")
    assert planned.exit_code == 0, planned.output
    assert "39" in planned.output
    assert "6 GPUs" in planned.output
    assert "✗" in planned.output
    found = json.loads((await asks.operator(*course, "--json")).output)
    assert (found["attendance"], found["gpus"], found["enough"]) == (39, 6, False)
    assert "Nobody waits." in (await asks.operator("overview")).output


async def test_an_operator_sees_who_holds_what(asks: Asks) -> None:
    assert "Nobody holds a GPU." in (await asks.operator("overview")).output
    lease = await asks.granted("20")
    shown = await asks.operator("overview")
    assert shown.exit_code == 0, shown.output
    assert "a100: A100-40GB (simulated)" in shown.output
    row = next(line.split() for line in shown.output.splitlines() if line.startswith(lease["id"]))
    assert row[1:5] == ["anna", "physics", "a100", f"{lease['gpu']}:{lease['start']}"]
    assert json.loads((await asks.operator("overview", "--json")).output)["held"][0]["person"] == "anna"
    refused = await asks.person("overview")
    assert refused.exit_code == 2
    assert "specola: You may not do this" in refused.output


async def test_a_gpu_is_drained_and_used_again(asks: Asks) -> None:
    overview = json.loads((await asks.operator("overview", "--json")).output)
    card = overview["gpus"][0]["gpus"][0]["id"]
    drained = await asks.operator("drain", "a100", card, "--reason", "a fan")
    assert drained.output == f"Nothing new is placed on {card} of a100.\n"
    assert "drained" in (await asks.operator("overview")).output
    assert (await asks.operator("drain", "a100", card, "--undo")).output == f"{card} of a100 is in use again.\n"
    later = await asks.operator("drain", "a100", card, "--from", "2099-01-01 08:00")
    assert later.output == f"Nothing new is placed on {card} of a100 from 2099-01-01 08:00 on.\n"
    assert (await asks.operator("drain", "a100", "GPU-none")).exit_code == 2


def record(number: int, **more: Any) -> Record:
    now = time.time()
    known = Record(
        lease=f"l{number}", person="anna", group="physics", course=None, pool="a100", model="A100-40GB", shape="3g",
        slots=4, fraction=0.5, simulated=True, server=False, asked=now - 7200, granted=now - 7200, active=now - 7200,
        ended=now - 3600, allocated_seconds=3600, used_seconds=1800, outcome="released", early=True,
    )  # fmt: skip
    return replace(known, **more)


async def test_a_layout_is_proposed_from_what_was_used(asks: Asks) -> None:
    """Two halves at once are served by two halves; what nobody used does not count."""
    shown = await asks.operator("layout", "--from-history", "--pool", "a100")
    assert shown.exit_code == 2
    assert "no lease has ended whose slice a A100-40GB has" in shown.output
    store = Store(asks.rig.service.engine)
    for number in range(2):
        store.engine.connect()
        _keep(store, record(number))
    _keep(store, record(2, shape="7g", outcome="lapsed"))
    _keep(store, record(3, shape="7g", pool="other"))
    shown = await asks.operator("layout", "--from-history", "--pool", "a100")
    assert shown.exit_code == 0, shown.output
    assert shown.output.splitlines() == [
        "2 leases ended in the last 90 days, 2 of them simulated.",
        "  1 × [3g 3g]   3g.20gb, 3g.20gb",
        "It would have served 100% of them at once.",
    ]
    found = json.loads(
        (await asks.operator("layout", "--from-history", "--model", "A100-40GB", "--cards", "1", "--json")).output
    )
    assert (found["leases"], found["simulated"], sum(one["gpus"] for one in found["layouts"])) == (3, 3, 1)


def _keep(store: Store, one: Record) -> None:
    from dataclasses import asdict

    from specola.gpu.tables import records

    with store.engine.begin() as connection:
        connection.execute(records.insert().values(asdict(one)))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Give either --pool, or --model with --cards"),
        (("--pool", "a100", "--model", "A100-40GB"), "Give either --pool"),
        (("--pool", "b"), "No such pool; there are: a100."),
        (("--model", "V100"), "No such model; there are: A30-24GB"),
        (("--model", "A100-40GB"), "Say with --cards how many"),
    ],
)
async def test_a_layout_is_of_gpus_that_are_known(asks: Asks, words: tuple[str, ...], said: str) -> None:
    shown = await asks.operator("layout", "--from-history", *words)
    assert shown.exit_code == 2
    assert said in shown.output


def test_a_database_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    layout = asking.layout_of(tmp_path / "state")
    with pytest.raises(StateError, match="cannot read"):
        gpu_layout.used(layout, 0)
    layout.state.mkdir()
    assert gpu_layout.used(layout, 0) == []
    layout.database.write_bytes(b"")
    with pytest.raises(StateError, match="no such table"):
        gpu_layout.used(layout, 0)


async def test_whoever_asks_without_a_token_asks_as_the_operator(asks: Asks, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says what is missing: a facility, its secret, an answer."""
    nowhere = await asyncio.to_thread(
        CliRunner().invoke, main, ["gpu", "overview", "--state", str(asks.rig.runtime.layout.run)]
    )
    assert "there is no facility in" in nowhere.output
    shutil.rmtree(asks.rig.runtime.layout.secrets)
    assert "cannot read" in (await asks.operator("overview")).output
    monkeypatch.delenv(asking.TOKEN, raising=False)
    assert not asking.is_person(None)


async def test_the_token_goes_through_no_proxy_of_the_environment(asks: Asks, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await asks.person("offers")).exit_code == 0


@pytest.mark.parametrize(
    ("text", "minutes"), [("90", 90), ("90 min", 90), ("2h", 120), ("1.5 h", 90), ("1 d", 1440), ("10 s", 1)]
)
def test_durations_are_minutes_or_have_a_unit(text: str, minutes: int) -> None:
    assert gpu.duration(text) == minutes


@pytest.mark.parametrize(("text", "size"), [("20", 20), ("20GB", 20), ("20 GiB", 20), ("4.75g", 4.75)])
def test_sizes_are_as_people_say_them(text: str, size: float) -> None:
    assert gpu.gib(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1e3", "20 MB", "٢٠"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        gpu.gib(text)


def test_times_and_waits_are_said_in_words() -> None:
    assert gpu.wait(None) == "nobody can say"
    assert gpu.wait({"low": 0, "high": 30}) == "0 min to 1 min"
    assert gpu.wait({"low": 5400, "high": 5400}) == "1 h 30 min"
    assert gpu.wait({"low": 3600, "high": None}) == "1 h or more"
    assert gpu_desk._time(None) == "–"
    assert gpu_desk._time("2026-11-21T14:00:00+01:00") == "2026-11-21 13:00"
    pool: dict[str, Any] = {"available": False, "reason": "no driver", "controls_placement": False}
    assert gpu.trouble(pool) == ": no driver"
    assert gpu.free_of(pool, {}) == ("?", "the site decides")
    full = {"free": 0, "total": 2, "wait": None}
    assert gpu.free_of({"controls_placement": True}, full) == ("0 of 2", "nobody can say")


def test_a_lease_says_what_matters_now() -> None:
    base: dict[str, Any] = {"state": "active", "cause": None, "idle_since": None, "reason": "", "signal": "gpu"}
    times: dict[str, Any] = {"ends_at": None, "expires": "2026-11-21T14:00:00+00:00"}
    assert gpu.left(base | times, now=1795269600 - 600) == "10 min"
    assert gpu.left(base | {"ends_at": None, "expires": None}) == "–"
    assert gpu.remark(base | {"cause": "reclaimed"}) == "it ends: reclaimed"
    assert gpu.remark(base | {"idle_since": "2026-11-21T14:00:00+01:00"}) == "idle since 13:00 UTC (gpu)"
    assert gpu.remark(base | {"state": "ended", "outcome": "lapsed", "reason": "Nobody came."}) == "lapsed Nobody came."
    held = {"server": "", "kernel": None}
    assert gpu.used_by(held) == "server (default)"
    assert gpu.used_by({"server": None, "kernel": "k"}) == "kernel"


def test_pools_and_queues_are_drawn() -> None:
    part = {"size": 4, "state": "busy"}
    one = {"index": 0, "id": "GPU-1", "parts": [part, part | {"state": "free"}], "healthy": True, "drained": True}
    sick = one | {"healthy": False, "reason": "hot"}
    pool = {"name": "p", "model": "A", "actuator": "nvml", "simulated": False, "available": False, "reason": "later"}
    lines = list(gpu_desk._cards([pool | {"gpus": [one, sick]}]))
    assert lines[:3] == ["p: A (nvml)", "  not now: later", "    0 GPU-1  [████|····]  drained"]
    assert lines[3].endswith("hot")
    scattered = {"fragmentation": [{"pool": "p", "shape": "3g", "now": 1, "joined": 2}]}
    assert list(gpu_desk._scattered(scattered))[-1] == "  p 3g: 1 of 2"
    (row,) = [line for line in gpu_desk._held([held()]) if line.startswith("l1")]
    assert row.split() == ["l1", "anna", "cms", "farm", "3g", "active", *["2026-11-21", "13:00"] * 3, "(gpu)"]


def held() -> dict[str, Any]:
    at = "2026-11-21T13:00:00+00:00"
    words = {"lease": "l1", "person": "anna", "group": "cms", "pool": "farm", "gpu": None, "start": None, "shape": "3g"}
    return {**words, "state": "active", "since": at, "expires": at, "idle_since": at, "signal": "gpu"}
