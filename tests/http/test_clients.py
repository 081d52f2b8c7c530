"""The typed client of our API, and the hub's client where the hub misbehaves."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from apirig import API, Rig
from fakehub import SERVICE_TOKEN
from specola.client.api import Api
from specola.client.hub import Hub
from specola.core.errors import Forbidden, NotFound, PublicError, Unauthenticated, Unavailable


def client(rig: Rig, token: str) -> Api:
    return Api(f"http://127.0.0.1:{rig.runtime.ports.service}{API}", token)


async def test_the_client_asks_what_people_ask(rig: Rig) -> None:
    async with client(rig, rig.state.token("anna")) as api:
        assert (await api.me())["name"] == "anna"
        assert [s["state"] for s in await api.start_server()] == ["starting"]
        rig.state.server("anna")
        assert [s["state"] for s in await api.servers()] == ["running"]
        assert await api.stop_server() == []
        await api.ask("POST", "servers/activity", {"kernels_busy": 0, "kernels_connected": 0})


async def test_a_problem_becomes_the_error_of_its_status(rig: Rig) -> None:
    async with client(rig, "wrong-token-1") as api:
        with pytest.raises(Unauthenticated, match="Log in first"):
            await api.me()
        with pytest.raises(NotFound):
            await api.ask("GET", "nothing")
        with pytest.raises(PublicError) as caught:
            await api.ask("PUT", "me")
        assert caught.value.reason == "method_not_allowed"
        with pytest.raises(Unauthenticated):
            async for _ in api.events():
                pass


async def test_events_come_with_their_ids(rig: Rig) -> None:
    first = rig.service.bus.publish("anna", "servers.changed", {"n": 1}).id
    rig.service.bus.publish("anna", "servers.changed", {"n": 2})
    async with client(rig, rig.state.token("anna")) as api:
        async for number, event in api.events(first):
            assert number > first
            assert event["data"] == {"n": 2}
            break


async def test_a_facility_that_is_not_there_or_is_something_else() -> None:
    def refuse(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no")

    async with Api("http://x", "token-1", transport=httpx.MockTransport(refuse)) as api:
        with pytest.raises(Unavailable, match="does not answer"):
            await api.me()
        assert [e async for e in api.events()] == []
    other = httpx.MockTransport(lambda _request: httpx.Response(418, text="tea"))
    async with Api("http://x", "token-1", transport=other) as api:
        with pytest.raises(Unavailable, match="as expected"):
            await api.me()


# ---- the hub


async def test_a_hub_that_restarts_is_waited_for(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specola.client.hub.PAUSE", 0.02)
    rig.state.away = True
    asking = asyncio.create_task(rig.ask("GET", "/me", rig.token()))
    await asyncio.sleep(0.2)
    assert not asking.done()
    rig.state.away = False
    assert (await asking).status_code == 200


def hub(answer: object) -> Hub:
    return Hub("http://x/hub/api", SERVICE_TOKEN, patience=0, transport=httpx.MockTransport(answer))  # type: ignore[arg-type]


async def test_a_change_that_may_have_been_done_is_not_sent_twice() -> None:
    sent: list[str] = []

    def cut(request: httpx.Request) -> httpx.Response:
        sent.append(request.method)
        raise httpx.ReadError("cut")

    with pytest.raises(Unavailable):
        await hub(cut).start("anna")
    assert sent == ["POST"]
    with pytest.raises(Unavailable):
        await hub(cut).user("anna")
    with pytest.raises(Unavailable):
        async for _ in hub(cut).progress("anna"):
            pass


@pytest.mark.parametrize(
    ("status", "body", "error", "reason"),
    [
        (404, "", NotFound, "not_found"),
        (403, "", Forbidden, "hub_refused"),
        (400, '{"message": "wait"}', PublicError, "hub_conflict"),
        (429, "not json", PublicError, "hub_conflict"),
        (418, "", Unavailable, "hub"),
        (500, "", Unavailable, "hub"),
    ],
)
async def test_what_the_hub_refuses_is_said_in_our_words(
    status: int, body: str, error: type[PublicError], reason: str
) -> None:
    with pytest.raises(error) as caught:
        await hub(lambda _request: httpx.Response(status, text=body)).user("a/b")
    assert caught.value.reason == reason


async def test_names_cannot_leave_their_place_in_the_address() -> None:
    seen: list[bytes] = []

    def note(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path)
        return httpx.Response(204)

    await hub(note).stop("a/../b", "c?d")
    assert seen == [b"/hub/api/users/a%2F..%2Fb/servers/c%3Fd"]


@pytest.mark.parametrize(("person", "server"), [("anna", ".."), ("anna", "."), ("..", ""), ("", "")])
async def test_no_name_becomes_another_path_at_the_hub(person: str, server: str) -> None:
    """The service's token may change more than the server that is meant."""
    sent: list[str] = []

    def note(request: httpx.Request) -> httpx.Response:
        sent.append(request.url.path)
        return httpx.Response(204)

    with pytest.raises(NotFound):
        await hub(note).stop(person, server)
    with pytest.raises(NotFound):
        await hub(note).start(person, server)
    assert sent == []
