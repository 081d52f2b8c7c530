"""What must not work: other people's ids, old tokens, passing limits together, sizes that make no sense."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gpu.servicerig import SECRET
from gpu.test_routes import DOCUMENT, Gpus, gpus_at, start


@pytest.fixture
async def gpus(tmp_path: Path) -> AsyncIterator[Gpus]:
    async with gpus_at(tmp_path) as made:
        yield made


async def test_somebody_elses_request_and_lease_are_not_there(gpus: Gpus) -> None:
    lease = await gpus.lease("anna")
    path, token = f"leases/{lease['id']}", {"token": lease["token"]}
    attempts: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", f"requests/{lease['request']}", {}),
        ("DELETE", f"requests/{lease['request']}", {}),
        ("GET", path, {}),
        ("DELETE", path, {"params": token}),
        ("POST", f"{path}/kernel", {"json": start(lease)}),
        ("POST", f"{path}/confirm", {"json": token}),
        ("POST", f"{path}/renew", {"json": {**token, "minutes": 10}}),
        ("POST", f"{path}/activity", {"json": {**token, "kernel": "idle", "since": 0}}),
        ("POST", f"{path}/saved", {"json": token}),
        ("POST", f"{path}/grant", {"json": token}),
    ]
    for method, where, more in attempts:
        answer = await gpus.ask(method, where, "bob", **more)
        assert (answer.status_code, answer.json()["reason"]) == (404, "not_found"), where
    assert (await gpus.ask("GET", "leases", "bob")).json()["items"] == []
    assert (await gpus.ask("GET", "requests", "bob")).json()["items"] == []
    assert (await gpus.ask("GET", path)).json() == lease


async def test_the_map_does_not_tell_whose_a_slice_is(gpus: Gpus) -> None:
    lease = await gpus.lease("anna")
    offers = await gpus.ask("GET", "offers", "bob")
    assert "anna" not in offers.text
    assert lease["id"] not in offers.text


async def test_a_token_of_before_is_refused(gpus: Gpus) -> None:
    lease = await gpus.lease(server=True)
    grant = await gpus.ask("POST", f"leases/{lease['id']}/grant", json={"token": lease["token"]})
    await gpus.hub("POST", "grants/redeem", json={**grant.json(), "person": "anna", "server": ""})
    path, stale = f"leases/{lease['id']}", {"token": lease["token"]}
    for method, where, more in (
        ("DELETE", path, {"params": stale}),
        ("POST", f"{path}/confirm", {"json": stale}),
        ("POST", f"{path}/renew", {"json": {**stale, "minutes": 10}}),
        ("POST", f"{path}/saved", {"json": stale}),
    ):
        answer = await gpus.ask(method, where, **more)
        assert (answer.status_code, answer.json()["reason"]) == (409, "stale_token"), where
    assert (await gpus.hub("POST", f"{path}/confirm", json=stale)).status_code == 409
    assert (await gpus.hub("DELETE", path, params=stale)).status_code == 409


@pytest.mark.parametrize("token", ["", "x", "-1", "1" * 30, "١"])
async def test_a_token_that_is_none_is_refused(gpus: Gpus, token: str) -> None:
    lease = await gpus.lease()
    assert (await gpus.ask("DELETE", f"leases/{lease['id']}", params={"token": token})).status_code == 400


async def test_a_hundred_at_once_cannot_pass_the_maximum_of_their_group(tmp_path: Path) -> None:
    document = {
        **DOCUMENT,
        "groups": {"physics": {"gpu": {"max_slots": 5}}},
        "gpu": {"pools": {"a100": {"actuator": "simulated", "model": "A100-40GB", "cards": 8}}},
    }
    async with gpus_at(tmp_path, document) as gpus:
        people = [f"p{number}" for number in range(100)]
        gpus.rig.state.people |= {name: ["physics"] for name in people}
        gpus.service.loop.start()

        async def asks(name: str) -> int:
            """A hub in the same process may be too busy to say who asks: then nothing was asked."""
            while (answer := await gpus.ask("POST", "requests", name, json={"gib": 4})).status_code == 503:
                pass
            return answer.status_code

        answers = await asyncio.gather(*map(asks, people))
        assert Counter(answers) == {202: 100}
        await gpus.go_round()
        overview = (await gpus.ask("GET", "overview", "dora")).json()
        assert len(overview["held"]) == 5
        assert len(overview["queued"]) == 95
        await gpus.service.loop.stop()


async def test_a_hundred_requests_of_one_person_are_four(gpus: Gpus) -> None:
    await gpus.ask("GET", "requests")
    answers = await asyncio.gather(*(gpus.ask("POST", "requests", json={"gib": 4}) for _ in range(100)))
    assert Counter(answer.status_code for answer in answers) == {202: 4, 422: 96}
    refused = next(answer.json() for answer in answers if answer.status_code == 422)
    assert (refused["reason"], refused["title"]) == (
        "too_many_requests",
        "This facility allows 4 requests and leases for one person at a time",
    )


async def test_one_key_at_once_is_one_request(gpus: Gpus) -> None:
    headers = gpus.rig.token("anna") | {"Idempotency-Key": "again"}
    body = {"gib": 4}
    answers = await asyncio.gather(*(gpus.rig.ask("POST", "/gpu/requests", headers, json=body) for _ in range(20)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1
    assert len((await gpus.ask("GET", "requests")).json()["items"]) == 1


@pytest.mark.parametrize(
    ("wish", "title", "could"),
    [
        ({"gib": 0}, "A size is more than 0 GiB", "You could have"),
        ({"gib": -4}, "A size is more than 0 GiB", "You could have"),
        ({"gib": 10000}, "No GPU here is that large", "39.25 GiB"),
        ({"gib": 4, "minutes": -10}, "A GPU is held for at least a minute", "minutes"),
        ({"gib": 4, "minutes": 0}, "A GPU is held for at least a minute", "minutes"),
        ({"gib": 4, "minutes": 10**9}, "Members of physics hold a GPU for at most 480 minutes", "less time"),
        ({"gib": 4, "pool": "nothing"}, "There is no such pool", "a100"),
        ({"gib": 4, "pool": "cloud"}, "This pool cannot be used here", "Kubernetes"),
        ({"gib": 4, "pool": "mine"}, "This pool is not open to your groups", "ml"),
        ({"gib": 4, "group": "ml"}, "You are not in this group", "physics"),
        ({"shape": "9g"}, "There is no such shape here", "1g"),
    ],
)
async def test_what_can_never_be_served_is_refused_and_says_what_could(
    gpus: Gpus, wish: dict[str, Any], title: str, could: str
) -> None:
    answer = await gpus.ask("POST", "requests", json=wish)
    problem = answer.json()
    assert (answer.status_code, problem["reason"], problem["title"]) == (422, "never_served", title)
    assert could in problem["detail"]
    assert (await gpus.ask("GET", "requests")).json()["items"] == []


@pytest.mark.parametrize(
    "wish",
    [
        {"gib": 4, "shape": "1g"},
        {},
        {"gib": "4 GiB"},
        {"gib": 4, "on_grant": "notebook"},
        {"gib": 4, "notebook": "a.ipynb"},
        {"gib": 4, "person": "bob"},
        {"shape": "x" * 33},
    ],
)
async def test_what_makes_no_sense_is_refused(gpus: Gpus, wish: dict[str, Any]) -> None:
    answer = await gpus.ask("POST", "requests", json=wish)
    assert (answer.status_code, answer.json()["reason"]) == (400, "bad_input")


async def test_more_than_the_group_may_ever_hold_is_refused(tmp_path: Path) -> None:
    document = {
        **DOCUMENT,
        "groups": {"physics": {"gpu": {"max_slots": 2}}},
        "gpu": {"pools": {"a100": DOCUMENT["gpu"]["pools"]["a100"]}},
    }
    async with gpus_at(tmp_path, document) as gpus:
        answer = (await gpus.ask("POST", "requests", json={"gib": 20})).json()
        assert (answer["status"], answer["title"]) == (422, "The group physics may hold 2 eighths of a GPU in all")
        assert answer["detail"] == "The smallest that would do takes 4. You could have 4.75, 9.62 GiB."


async def test_who_is_in_no_group_or_has_no_pool_is_told_so(tmp_path: Path) -> None:
    async with gpus_at(tmp_path, {**DOCUMENT, "gpu": {"pools": {}}}) as gpus:
        gpus.rig.state.people["otto"] = ["theory"]
        outside = (await gpus.ask("POST", "requests", "otto", json={"gib": 4})).json()
        assert (outside["status"], outside["title"]) == (422, "You are in no group that may have GPUs")
        nothing = (await gpus.ask("POST", "requests", json={"gib": 4})).json()
        assert (nothing["status"], nothing["title"]) == (422, "There are no GPUs here that you may use")


@pytest.mark.parametrize(
    ("grant", "person"), [("x", "anna"), ("", "anna"), ("x" * 256, "anna"), ("../../etc", "bob"), ("x", "")]
)
async def test_a_grant_that_was_never_given_is_worth_nothing(gpus: Gpus, grant: str, person: str) -> None:
    answer = await gpus.hub("POST", "grants/redeem", json={"grant": grant, "person": person, "server": ""})
    assert (answer.status_code, answer.json()["reason"]) == (404, "not_found")


async def test_people_cannot_redeem_drain_or_look_at_all(gpus: Gpus) -> None:
    lease = await gpus.lease(server=True)
    grant = await gpus.ask("POST", f"leases/{lease['id']}/grant", json={"token": lease["token"]})
    redeem = {**grant.json(), "person": "anna", "server": ""}
    for method, path, more in (
        ("POST", "grants/redeem", {"json": redeem}),
        ("GET", "overview", {}),
        ("PUT", f"drains/a100/{lease['gpu']}", {"json": {}}),
        ("DELETE", f"drains/a100/{lease['gpu']}", {}),
    ):
        assert (await gpus.ask(method, path, **more)).status_code == 403


async def test_an_administrator_uses_nobodys_lease(gpus: Gpus) -> None:
    """They may end one; its kernel is its person's alone."""
    lease = await gpus.lease()
    path, token = f"leases/{lease['id']}", {"token": lease["token"]}
    for method, where, more in (
        ("GET", path, {}),
        ("POST", f"{path}/kernel", {"json": start(lease)}),
        ("POST", f"{path}/confirm", {"json": token}),
        ("POST", f"{path}/grant", {"json": token}),
    ):
        assert (await gpus.ask(method, where, "dora", **more)).status_code == 404


async def test_the_secret_of_a_kernel_appears_nowhere(gpus: Gpus, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    lease = await gpus.lease()
    gpus.runner.fails = RuntimeError(f"cannot start with {SECRET}")
    failed = await gpus.ask("POST", f"leases/{lease['id']}/kernel", json=start(lease))
    gpus.runner.fails = None
    headers = gpus.rig.token("anna") | {"Idempotency-Key": "once"}
    answer = await gpus.rig.ask("POST", f"/gpu/leases/{lease['id']}/kernel", headers, json=start(lease))
    assert (failed.status_code, answer.status_code) == (503, 202)
    assert SECRET not in failed.text + answer.text + caplog.text
    state = gpus.rig.runtime.layout.state
    for file in state.rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file


@pytest.mark.parametrize("relay", ["http://example.org/", "file:///etc/passwd", "ws:/x", ""])
async def test_a_relay_is_a_websocket(gpus: Gpus, relay: str) -> None:
    lease = await gpus.lease()
    answer = await gpus.ask("POST", f"leases/{lease['id']}/kernel", json=start(lease) | {"relay_url": relay})
    assert answer.status_code == 400
