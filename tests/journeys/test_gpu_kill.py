"""kill -9 of the API service at every state of a request and of a lease: no slice is lost, none is held twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from running import Facility, Kernel, Session, started, wait_for
from specola.core.layout import Layout

pytestmark = pytest.mark.journey

FACILITY = """
name: killed
identity:
  kind: embedded
  people:
    - {name: anna, full_name: Anna Rossi, groups: [cms]}
    - {name: luca, full_name: Luca Ferrari, groups: [cms]}
groups:
  cms: {}
gpu:
  pools:
    a100: {actuator: simulated, model: A100-40GB, cards: 1}
  idle_after: 5 s
  youngest: 5 s
  notice: 20 s
  saving: 60 s
"""
ALIVE = {"making", "offered", "starting", "active", "expiring", "saving", "ending"}


@pytest.fixture(scope="module")
def place() -> Iterator[Facility]:
    with started(text=FACILITY) as running:
        yield running


@pytest.fixture(scope="module")
def anna(place: Facility) -> Session:
    return place.login("anna")


@pytest.fixture(scope="module")
def luca(place: Facility) -> Session:
    return place.login("luca")


def told(place: Facility, **said: Any) -> None:
    """Tell the simulated cards something; `latency` keeps a state long enough to be killed in it."""
    directory = place.state / "gpu" / "a100"
    file = directory / "control.json"
    file.write_text(json.dumps(said))
    owner = directory.stat()
    os.chown(file, owner.st_uid, owner.st_gid)


def killed(place: Facility) -> None:
    """kill -9, not waited for: the next question is."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(place.pid("service"), signal.SIGKILL)


def asked(session: Session, method: str, path: str, **more: Any) -> dict[str, Any]:
    """The answer of a service that may just be killed."""

    def answer() -> httpx.Response | None:
        found = session.api(method, f"gpu/{path}", **more)
        return None if found.status_code >= 500 else found

    found: httpx.Response = wait_for(answer, 120, f"{method} {path}")
    assert found.status_code < 300, found.text
    return dict(found.json())


def lease_of(session: Session, request: str) -> dict[str, Any] | None:
    items = asked(session, "GET", "leases")["items"]
    return next((one for one in reversed(items) if one["request"] == request), None)


def reaches(session: Session, request: str, *states: str) -> dict[str, Any]:
    """The newest lease of a request as soon as it is in one of these states."""

    def there() -> dict[str, Any] | None:
        lease = lease_of(session, request)
        return lease if lease is not None and lease["state"] in states else None

    return dict(wait_for(there, 120, f"a lease that is {' or '.join(states)}"))


def request_of(session: Session, **wish: Any) -> str:
    return str(asked(session, "POST", "requests", json=wish)["id"])


def slices(place: Facility) -> list[str]:
    """Tags of the slices that exist on the cards."""
    card = place.state / "gpu" / "a100" / "card-0.json"
    return [one["tag"] for one in json.loads(card.read_text())["slices"]] if card.exists() else []


def same(place: Facility, *sessions: Session) -> bool:
    """Whether there is a slice for each lease, and none besides."""
    alive = [one["id"] for who in sessions for one in asked(who, "GET", "leases")["items"] if one["state"] in ALIVE]
    return sorted(slices(place)) == sorted(alive)


def test_a_request_that_was_answered_is_granted_after_a_kill(place: Facility, anna: Session, luca: Session) -> None:
    told(place, latency=3)
    request = request_of(anna, shape="3g")
    killed(place)
    lease = reaches(anna, request, "making")
    killed(place)
    offered = reaches(anna, request, "offered")
    assert (offered["id"], offered["token"]) == (lease["id"], lease["token"])
    assert slices(place) == [lease["id"]]
    told(place)
    killed(place)
    again = reaches(anna, request, "offered")
    assert (again["device"], again["expires"]) == (offered["device"], offered["expires"])
    # others are served beside it, and never on its slots
    other = reaches(luca, request_of(luca, shape="3g"), "offered")
    assert other["start"] != again["start"]
    assert other["token"] > again["token"]
    assert wait_for(lambda: same(place, anna, luca), 60, "a slice for each lease")
    told(place, latency=3)
    for session, one in ((anna, again), (luca, other)):
        asked(session, "DELETE", f"leases/{one['id']}", params={"token": one["token"]})
    reaches(anna, request, "ending")
    killed(place)
    assert reaches(anna, request, "ended")["outcome"] == "cancelled"
    told(place)
    wait_for(lambda: slices(place) == [], 60, "an empty card")


@pytest.fixture(scope="module")
def kernel(place: Facility, anna: Session) -> Kernel:
    """A GPU kernel whose service is killed while it starts."""
    anna.start_server()
    request = request_of(anna, shape="7g", minutes=60)
    reaches(anna, request, "offered")
    answer = anna.lab("POST", "api/kernels", json={"name": "specola-gpu"})
    answer.raise_for_status()
    reaches(anna, request, "starting", "active")
    killed(place)
    reaches(anna, request, "active")
    made = Kernel(anna, answer.json()["id"])
    made.request = request  # type: ignore[attr-defined]
    return made


def test_a_kernel_that_was_starting_becomes_active_and_keeps_its_memory(
    place: Facility, anna: Session, kernel: Kernel
) -> None:
    assert kernel.run("answer = 41; print(answer)").strip() == "41"
    before = reaches(anna, kernel.request, "active")  # type: ignore[attr-defined]
    killed(place)
    after = reaches(anna, kernel.request, "active")  # type: ignore[attr-defined]
    assert (after["token"], after["active"], after["device"]) == (before["token"], before["active"], before["device"])
    assert kernel.run("print(answer + 1)").strip() == "42"
    assert slices(place) == [before["id"]]


def test_a_lease_that_is_being_reclaimed_is_reclaimed(
    place: Facility, anna: Session, luca: Session, kernel: Kernel
) -> None:
    mine = kernel.request  # type: ignore[attr-defined]
    before = reaches(anna, mine, "active")
    request = request_of(luca, shape="7g")
    killed(place)
    warned = reaches(anna, mine, "expiring")
    assert warned["cause"] == "reclaimed"
    killed(place)
    still = reaches(anna, mine, "expiring", "saving")
    assert still["ends_at"] is not None
    reaches(anna, mine, "saving", "ending", "ended")
    killed(place)
    ended = reaches(anna, mine, "ended")
    assert (ended["id"], ended["outcome"]) == (before["id"], "reclaimed")
    offered = reaches(luca, request, "offered")
    assert offered["token"] > before["token"]
    assert wait_for(lambda: slices(place) == [offered["id"]], 60, "the slice of the next one alone")
    assert anna.server_ready()
    asked(luca, "DELETE", f"leases/{offered['id']}", params={"token": offered["token"]})
    wait_for(lambda: slices(place) == [], 60, "an empty card")


def test_a_worker_without_its_lease_is_ended_at_the_next_start(place: Facility, anna: Session) -> None:
    """`specola stop` ends kernels as it ends servers; what their leases held is free when the facility is up again."""
    anna.start_server()
    request = request_of(anna, shape="2g", minutes=60)
    reaches(anna, request, "offered")
    answer = anna.lab("POST", "api/kernels", json={"name": "specola-gpu"})
    answer.raise_for_status()
    reaches(anna, request, "active")
    assert workers(place)
    place.stop()
    assert not workers(place)
    place.up()
    ended = reaches(anna, request, "ended")
    assert ended["outcome"] in {"released", "failed"}
    wait_for(lambda: slices(place) == [], 60, "an empty card")


def workers(place: Facility) -> list[int]:
    """GPU kernel workers of the facility that run on this machine."""
    mark = f"SPECOLA_PROGRAM={Layout(place.state).id}/gpu.".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(word.startswith(mark) for word in (process / "environ").read_bytes().split(b"\0")):
                found.append(int(process.name))
    return found
