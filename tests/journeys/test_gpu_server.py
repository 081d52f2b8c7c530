"""GPUs in a whole facility with a simulated pool: slices of servers and of kernels, and what outlives what."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from running import Facility, Kernel, Session, started, wait_for

pytestmark = pytest.mark.journey
SHOW = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'] or 'none', os.environ['NVIDIA_VISIBLE_DEVICES'])"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def facility() -> Iterator[Facility]:
    """The demo facility, of these tests alone: its hub and its service are killed here."""
    with started() as running:
        yield running


@pytest.fixture(scope="module")
def anna(facility: Facility) -> Session:
    return facility.login("anna")


@pytest.fixture(scope="module")
def luca(facility: Facility) -> Session:
    return facility.login("luca")


def lease_of(session: Session, lease: str) -> Json:
    return dict(session.api("GET", f"gpu/leases/{lease}").json())


def becomes(session: Session, lease: str, *states: str) -> Json:
    """The lease, once it is in one of these states."""

    def there() -> Json | None:
        found = lease_of(session, lease)
        return found if found["state"] in states else None

    return dict(wait_for(there, 120, f"{lease} {' or '.join(states)}"))


def offered(session: Session, **wish: Any) -> Json:
    """A lease that is held for the person."""
    asked = session.api("POST", "gpu/requests", json={"gib": 5, "minutes": 30, **wish})
    assert asked.status_code == 202, asked.text
    number = asked.json()["id"]

    def granted() -> str | None:
        found = session.api("GET", f"gpu/requests/{number}").json()
        return found["lease"] if found["state"] == "granted" else None

    return becomes(session, wait_for(granted, 60, "the grant"), "offered")


def grant(session: Session, lease: Json, server: str = "") -> str:
    answer = session.api("POST", f"gpu/leases/{lease['id']}/grant", json={"token": lease["token"], "server": server})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["grant"])


def failed(session: Session) -> str:
    """The last words of a start that failed."""

    def word() -> str | None:
        answer = session.hub("GET", f"users/{session.name}/server/progress")
        steps = [json.loads(line[5:]) for line in answer.text.splitlines() if line.startswith("data:")]
        return next((str(step["message"]) for step in steps if step.get("failed")), None)

    return str(wait_for(word, 120, "the failure"))


def gpu_kernel(session: Session) -> Kernel:
    """A GPU kernel on the lease that is held, once it is ready."""
    answer = session.lab("POST", "api/kernels", json={"name": "specola-gpu"})
    answer.raise_for_status()
    wait_for(lambda: any(one["state"] == "active" for one in leases(session)), 120, "the GPU kernel")
    return Kernel(session, answer.json()["id"])


def test_a_server_with_a_slice_sees_it_and_nothing_else(anna: Session) -> None:
    """Asked for, granted, started with, confirmed, stopped, given back."""
    lease = offered(anna, server=True)
    answer = anna.api("POST", "servers", json={"gpu": grant(anna, lease)})
    assert answer.status_code == 202, answer.text
    wait_for(anna.server_ready, 180, "the server")
    found = becomes(anna, lease["id"], "active")
    assert found["device"].startswith("MIG-")
    assert anna.kernel().run(SHOW).split() == [found["device"], found["device"]]
    assert (found["server"], found["simulated"]) == ("", True)
    assert found["expires"] is not None
    anna.stop_server()
    assert becomes(anna, lease["id"], "ended")["outcome"] == "released"


def test_the_next_server_has_no_gpu(anna: Session) -> None:
    """Started as by somebody who says nothing about options: the hub gives it those of the last start."""
    anna.start_server()
    assert anna.kernel().run(SHOW).split() == ["none", "void"]
    anna.stop_server()


def test_a_grant_is_good_for_its_person_its_server_and_once(anna: Session, luca: Session) -> None:
    lease = offered(anna, server=True)
    stolen = grant(anna, lease)
    luca.hub("POST", "users/luca/server", json={"user_options": {"gpu": stolen}})
    assert not re.search(r"SpawnException|\d{3} ", failed(luca))
    other = grant(anna, lease, "second")
    anna.hub("POST", "users/anna/server", json={"user_options": {"gpu": other}})
    assert "SpawnException" not in failed(anna)
    anna.hub("POST", "users/anna/server", json={"user_options": {"gpu": "x" * 40}})
    assert "SpawnException" not in failed(anna)
    assert becomes(anna, lease["id"], "offered")["server"] is None
    mine = grant(anna, becomes(anna, lease["id"], "offered"))
    assert anna.api("POST", "servers", json={"gpu": mine}).status_code == 202
    wait_for(anna.server_ready, 180, "the server")
    becomes(anna, lease["id"], "active")
    anna.stop_server()
    becomes(anna, lease["id"], "ended")
    anna.hub("POST", "users/anna/server", json={"user_options": {"gpu": mine}})
    assert "This grant is not good, or no more" in failed(anna)
    assert anna.hub("GET", "users/anna").json()["servers"] == {}


@pytest.mark.needs_root
def test_a_start_that_fails_gives_the_slice_back(facility: Facility, anna: Session) -> None:
    lease = offered(anna, server=True)
    anna.hub("POST", "users/anna/server", json={"user_options": {"gpu": grant(anna, lease)}})
    record = facility.run / "programs" / "server.anna"

    def shot() -> bool:
        with contextlib.suppress(OSError, ValueError, KeyError):
            os.kill(json.loads(record.read_text())["pid"], signal.SIGKILL)
            return True
        return False

    wait_for(shot, 60, "the server's process")
    assert "ended while it started" in failed(anna)
    becomes(anna, lease["id"], "ended")
    assert anna.api("GET", "gpu/offers").json()["pools"][0]["gpus"][0]["parts"][0]["state"] == "free"


def test_a_hub_that_is_killed_loses_no_slice(facility: Facility, anna: Session) -> None:
    """With the server up, the lease goes on; it ends with the server, at the next hub."""
    lease = offered(anna, server=True)
    anna.api("POST", "servers", json={"gpu": grant(anna, lease)})
    wait_for(anna.server_ready, 180, "the server")
    becomes(anna, lease["id"], "active")
    facility.kill("hub")
    facility.kill("service")
    wait_for(anna.server_ready, 120, "the server, known again")
    found = becomes(anna, lease["id"], "active")
    assert anna.kernel().run(SHOW).split() == [found["device"], found["device"]]
    anna.stop_server()
    becomes(anna, lease["id"], "ended")


def test_a_hub_that_is_killed_while_it_starts_a_server_leaves_nothing_held(facility: Facility, anna: Session) -> None:
    """Given back by the next hub; or, where the hub died before it could write the lease down, held for its person."""
    lease = offered(anna, server=True)
    anna.hub("POST", "users/anna/server", json={"user_options": {"gpu": grant(anna, lease)}})
    becomes(anna, lease["id"], "starting")
    facility.kill("hub")
    found = becomes(anna, lease["id"], "ended", "offered")
    assert not anna.hub("GET", "users/anna").json()["servers"]
    if found["state"] == "offered":
        anna.api("DELETE", f"gpu/leases/{found['id']}", params={"token": found["token"]})
        becomes(anna, lease["id"], "ended")


def test_the_third_notebook_in_its_two_kernels(luca: Session) -> None:
    """Asks in the CPU kernel, computes in the GPU kernel, gives back, and goes on where the checkpoint was."""
    luca.start_server()
    answer = luca.lab("GET", "api/contents/notebooks/03-gpu.ipynb")
    assert answer.status_code == 200, answer.text
    notebook = nbformat.from_dict(answer.json()["content"])
    cpu, gpu, said = luca.kernel(), None, []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        if cell.metadata["tags"] == ["cpu"]:
            gpu = None
            said.append(cpu.run(cell.source, 240))
        else:
            gpu = gpu or gpu_kernel(luca)
            said.append(gpu.run(cell.source, 240))
        if "gpu.release()" in cell.source and gpu is not None:
            wait_for(lambda: not [one for one in leases(luca) if one["state"] != "ended"], 120, "the end of the lease")
    place = Path("artefacts/notebooks")
    place.mkdir(parents=True, exist_ok=True)
    words = "\n".join(said)
    (place / "03-gpu.ipynb.txt").write_text(words)
    assert "A100-40GB (simulated) is held for you" in words
    assert "This kernel sees MIG-" in words
    assert "Restored after 10 steps: " in words
    assert "Now 410 steps: 1.50, -1.98, 0.68" in words


def leases(session: Session) -> list[Json]:
    return list(session.api("GET", "gpu/leases").json()["items"])


def test_a_restart_keeps_gpu_kernels_and_a_stop_ends_them(facility: Facility, luca: Session) -> None:
    """As with everything that people run: `specola status` counts them, `specola stop` leaves none."""
    luca.start_server()
    lease = offered(luca)
    kernel = gpu_kernel(luca)
    kernel.run("x = 41")
    becomes(luca, lease["id"], "active")
    assert facility.status()["programs"]["GPU kernel"] == 1
    record = json.loads((facility.run / "programs" / f"gpu.{lease['id']}").read_text())
    facility.specola("restart", "--state", str(facility.state))
    luca = facility.login("luca")
    assert Kernel(luca, kernel.id).run("print(x + 1)").strip() == "42"
    assert becomes(luca, lease["id"], "active")["device"] == lease["device"]
    facility.stop()
    assert not (Path("/proc") / str(record["pid"])).exists()
    assert not list((facility.run / "programs").glob("gpu.*"))
    facility.up()
    luca = facility.login("luca")
    assert becomes(luca, lease["id"], "ended")["outcome"] in {"failed", "released"}
    pool = luca.api("GET", "gpu/offers").json()["pools"][0]
    assert [part["state"] for card in pool["gpus"] for part in card["parts"]] == ["free", "free"]
