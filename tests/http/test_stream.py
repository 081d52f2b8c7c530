"""Event streams: live, resumed, alive, cut off when a right is gone."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from apirig import API, Rig
from specola.http import sse
from specola.http.auth import Doorkeeper


class Reader:
    """Reads one stream."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self.comments = 0

    async def next(self) -> tuple[int, dict[str, Any]]:
        number = 0
        async for line in self._lines:
            if line.startswith("id: "):
                number = int(line[4:])
            elif line.startswith("data: "):
                return number, json.loads(line[6:])
            elif line.startswith(":"):
                self.comments += 1
        raise EOFError


@asynccontextmanager
async def reading(rig: Rig, headers: dict[str, str], query: str = "") -> AsyncIterator[Reader]:
    async with rig.http.stream("GET", f"{API}/events{query}", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["x-accel-buffering"] == "no"
        lines = answer.aiter_lines()
        assert (await anext(lines)).startswith("retry:")
        yield Reader(lines)


async def within(wait: Any) -> Any:
    return await asyncio.wait_for(wait, 60)


async def test_events_come_at_once_and_only_one_s_own(rig: Rig) -> None:
    async with reading(rig, rig.token()) as reader:
        rig.service.bus.publish("bob", "servers.changed", {"server": "b"})
        rig.service.bus.publish("anna", "servers.changed", {"server": "a"})
        rig.service.bus.publish(None, "servers.changed", {"text": "hello"})
        assert (await within(reader.next()))[1] == {"type": "servers.changed", "data": {"server": "a"}}
        assert (await within(reader.next()))[1]["type"] == "servers.changed"


async def test_a_token_sees_only_the_features_that_it_may_read(rig: Rig) -> None:
    async with reading(rig, rig.token(scopes=("custom:specola:identity", "custom:specola:servers"))) as reader:
        rig.service.bus.publish("anna", "scaleout.cluster", {})
        rig.service.bus.publish(None, "servers.changed", {})
        assert (await within(reader.next()))[1]["type"] == "servers.changed"


@pytest.mark.parametrize("how", ["header", "query"])
async def test_a_stream_goes_on_where_it_ended(rig: Rig, how: str) -> None:
    bus = rig.service.bus
    seen = bus.publish("anna", "servers.changed", {"n": 0}).id
    for n in (1, 2):
        bus.publish("anna", "servers.changed", {"n": n})
    headers = rig.token() | ({"Last-Event-ID": str(seen)} if how == "header" else {})
    async with reading(rig, headers, "" if how == "header" else f"?last_event_id={seen}") as reader:
        first, second = [await within(reader.next()) for _ in range(2)]
        assert [first[1]["data"]["n"], second[1]["data"]["n"]] == [1, 2]
        assert seen < first[0] < second[0]


async def test_an_id_of_before_a_restart_means_resync(rig: Rig) -> None:
    async with reading(rig, rig.token() | {"Last-Event-ID": "12"}) as reader:
        assert (await within(reader.next()))[1]["type"] == "resync"


async def test_a_silent_stream_says_that_it_lives(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT", 0.05)
    async with reading(rig, rig.token()) as reader:
        async with asyncio.timeout(60):
            while reader.comments < 2:
                await asyncio.sleep(0.3)
                rig.service.bus.publish("anna", "servers.changed", {})
                await reader.next()


async def test_a_stream_ends_when_the_right_is_gone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specola.http.app.RECHECK", 0.05)
    headers = rig.token()
    async with reading(rig, headers) as reader:
        rig.state.tokens.pop(headers["Authorization"][6:])
        now = time.monotonic
        monkeypatch.setattr("specola.http.auth.time", type("clock", (), {"monotonic": lambda: now() + 6}))
        with pytest.raises(EOFError):
            await within(reader.next())


async def test_events_do_not_put_the_look_off(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that says something all the time is looked at as often as a silent one."""
    looks: list[int] = []
    events = 0
    admit = Doorkeeper.admit

    async def note(*asked: Any) -> Any:
        looks.append(events)
        return await admit(*asked)

    monkeypatch.setattr(Doorkeeper, "admit", note)
    monkeypatch.setattr("specola.http.app.RECHECK", 0.6)
    async with reading(rig, rig.token()) as reader:
        while events < 12:
            events += 1
            await asyncio.sleep(0.2)
            rig.service.bus.publish("anna", "servers.changed", {})
            await within(reader.next())
    assert len(looks) >= 3
    between = [later - earlier for earlier, later in pairwise([*looks, events])]
    assert max(between) <= 6, "of an event each 0.2 s, about three lie between two looks"


async def test_a_stream_survives_a_hub_that_is_away(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specola.http.app.RECHECK", 0.05)
    monkeypatch.setattr("specola.http.auth.REMEMBERED", 0.0)
    monkeypatch.setattr("specola.client.hub.PAUSE", 10)
    async with reading(rig, rig.token()) as reader:
        rig.state.away = True
        await asyncio.sleep(0.2)
        rig.service.bus.publish("anna", "servers.changed", {})
        await within(reader.next())


async def test_a_reader_that_left_is_forgotten(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specola.http.app.RECHECK", 0.05)
    async with reading(rig, rig.token()):
        assert len(rig.service.bus._subscriptions) == 1
    async with asyncio.timeout(60):
        while rig.service.bus._subscriptions:  # noqa: ASYNC110 - nobody is told of it
            await asyncio.sleep(0.02)


async def test_the_start_of_a_server_in_words(rig: Rig) -> None:
    rig.state.progress = [
        {"progress": 10, "message": "Making the account", "html_message": "<b>x</b>"},
        {"progress": 100, "failed": True, "message": "Spawn failed: the home is full"},
    ]
    async with rig.http.stream("GET", f"{API}/servers/progress", headers=rig.token()) as answer:
        reader = Reader(answer.aiter_lines())
        assert (await reader.next())[1]["data"] == {"progress": 10, "message": "Making the account"}
        last = (await reader.next())[1]["data"]
        assert (last["failed"], last["message"]) == (True, "the home is full")
        with pytest.raises(EOFError):
            await reader.next()


async def test_progress_of_nothing_ends_without_a_word(rig: Rig) -> None:
    async with rig.http.stream("GET", f"{API}/servers/progress?name=x", headers=rig.token()) as answer:
        with pytest.raises(EOFError):
            await Reader(answer.aiter_lines()).next()


@pytest.mark.parametrize(
    ("header", "query", "expected"),
    [
        (None, None, None),
        ("7", None, 7),
        (None, "8", 8),
        ("7", "8", 7),
        ("x", "8", 8),
        ("-1", None, None),
        ("9" * 40, None, None),
        ("٣", None, None),
    ],
)
def test_where_to_go_on(header: str | None, query: str | None, expected: int | None) -> None:
    assert sse.resume_from(header, query) == expected
