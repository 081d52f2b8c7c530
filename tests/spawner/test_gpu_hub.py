"""The slice of a server in a real hub, with real servers: from the grant to its end, and what goes wrong between."""

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
from fakegpus import TOKEN, Gpus, gpu_service
from hubbing import Hub, hub
from running import wait_for


@pytest.fixture(scope="module")
def service() -> Iterator[Gpus]:
    with gpu_service() as running:
        yield running


@pytest.fixture(scope="module")
def hubs(service: Gpus) -> Iterator[Hub]:
    with hub({}, service.url) as running:
        secrets = running.place.layout.secrets
        secrets.mkdir(parents=True, exist_ok=True)
        (secrets / "service").write_text(TOKEN)
        yield running


def start(hubs: Hub, person: str, options: dict[str, Any] | None, name: str = "") -> None:
    """Ask for a server as anybody may who has a token; None says nothing about options."""
    hubs.ask("POST", f"users/{person}")
    more = {} if options is None else {"json": {"user_options": options}}
    answer = hubs.ask("POST", f"users/{person}/servers/{name}", **more)
    assert answer.status_code in {201, 202}, answer.text


def ready(hubs: Hub, person: str, name: str = "") -> None:
    wait_for(lambda: hubs.server(person, name).get("ready"), 180, f"server of {person}: {hubs.log[-3000:]}")


def record(hubs: Hub, key: str) -> dict[str, Any]:
    return dict(json.loads((hubs.place.layout.run / "programs" / key).read_text()))


def environment(hubs: Hub, key: str) -> dict[str, str]:
    content = Path(f"/proc/{record(hubs, key)['pid']}/environ").read_text()
    return dict(line.partition("=")[::2] for line in content.split("\0") if line)


def told(hubs: Hub, person: str, name: str = "") -> list[str]:
    """What was said about the last start, to its end."""
    server = f"servers/{name}" if name else "server"
    url = f"{hubs.settings['hub']}/hub/api/users/{person}/{server}/progress"
    with httpx.stream("GET", url, headers={"Authorization": "token test-token-of-the-test"}, timeout=120) as events:
        steps = [json.loads(line[5:]) for line in events.iter_lines() if line.startswith("data:")]
    return [str(step["message"]) for step in steps]


def test_a_server_gets_the_slice_of_its_grant_and_gives_it_back(hubs: Hub, service: Gpus) -> None:
    """And the next start, of which nothing is said, has neither the grant nor a GPU, and says so."""
    start(hubs, "anna", {"gpu": service.grant("a1", "anna")})
    ready(hubs, "anna")
    env = environment(hubs, "server.anna")
    assert env["CUDA_VISIBLE_DEVICES"] == "MIG-7"
    wait_for(lambda: service.leases["a1"].state == "active", 30, "the confirmation")
    hubs.stop_server("anna")
    wait_for(lambda: service.leases["a1"].state == "ended", 30, "the release")
    redeemed = service.calls.count("POST grants/redeem")
    start(hubs, "anna", None)
    words = told(hubs, "anna")
    ready(hubs, "anna")
    assert any("granted for that start only: this one has no GPU" in text for text in words), words
    env = environment(hubs, "server.anna")
    assert (env["CUDA_VISIBLE_DEVICES"], env["NVIDIA_VISIBLE_DEVICES"]) == ("", "void")
    assert service.calls.count("POST grants/redeem") == redeemed
    hubs.stop_server("anna")


@pytest.mark.parametrize(
    ("grant", "words"),
    [
        ("grant-of-b1", "This GPU grant is not for this server. Ask for a new one in the panel."),
        ("grant-of-b2", "This GPU grant has been used already. Ask for a new one in the panel."),
        ("grant-of-b3", "This GPU grant is not for this server. Ask for a new one in the panel."),
        (["garbage"], "What was sent is no grant of a GPU. Ask for the GPU in the panel, and start from there."),
    ],
    ids=["somebody else's", "used", "for another server name", "garbage"],
)
def test_whoever_sends_what_is_not_theirs_gets_a_sentence_and_no_server(
    hubs: Hub, service: Gpus, grant: object, words: str
) -> None:
    """Anybody may POST any options at the hub."""
    service.grant("b1", "anna")
    service.used.add(service.grant("b2", "bruno"))
    service.grant("b3", "bruno", server="second")
    start(hubs, "bruno", {"gpu": grant})
    assert told(hubs, "bruno")[-1] == f"Spawn failed: {words}"
    assert not hubs.server("bruno")
    assert not (hubs.place.layout.run / "programs" / "server.bruno").exists()
    assert {service.leases[name].state for name in ("b1", "b2", "b3")} == {"offered"}


def test_a_service_that_is_down_is_said_and_the_next_start_works(hubs: Hub, service: Gpus) -> None:
    service.away = True
    start(hubs, "carla", {"gpu": service.grant("c1", "carla")})
    assert "whoever hands out the GPUs does not answer" in told(hubs, "carla")[-1]
    service.away = False
    assert service.leases["c1"].state == "offered"
    start(hubs, "carla", None)
    ready(hubs, "carla")
    assert environment(hubs, "server.carla")["CUDA_VISIBLE_DEVICES"] == ""
    hubs.stop_server("carla")
    assert service.leases["c1"].state == "offered"


def test_a_server_that_dies_while_it_starts_gives_its_slice_back(hubs: Hub, service: Gpus) -> None:
    start(hubs, "dario", {"gpu": service.grant("d1", "dario")})
    path = hubs.place.layout.run / "programs" / "server.dario"

    def shot() -> bool:
        with contextlib.suppress(OSError, ValueError, KeyError):
            os.kill(json.loads(path.read_text())["pid"], signal.SIGKILL)
            return True
        return False

    wait_for(shot, 60, "the server's process")
    wait_for(lambda: service.leases["d1"].state == "ended", 60, "the release")
    assert not hubs.server("dario")


def test_a_server_that_dies_later_gives_its_slice_back(hubs: Hub, service: Gpus) -> None:
    start(hubs, "elio", {"gpu": service.grant("e1", "elio", server="second")}, "second")
    ready(hubs, "elio", "second")
    wait_for(lambda: service.leases["e1"].state == "active", 30, "the confirmation")
    os.kill(record(hubs, "server.elio.second")["pid"], signal.SIGKILL)
    wait_for(lambda: service.leases["e1"].state == "ended", 60, "the release")


def test_a_hub_that_is_killed_keeps_the_slices_of_its_servers(hubs: Hub, service: Gpus) -> None:
    """The next hub knows the lease, and gives it back when the server stops."""
    start(hubs, "fulvia", {"gpu": service.grant("f1", "fulvia")})
    ready(hubs, "fulvia")
    wait_for(lambda: service.leases["f1"].state == "active", 30, "the confirmation")
    hubs.kill_hub()
    hubs.start_hub()
    assert hubs.server("fulvia")["ready"]
    assert service.leases["f1"].state == "active"
    hubs.stop_server("fulvia")
    wait_for(lambda: service.leases["f1"].state == "ended", 30, "the release")


def test_a_hub_that_is_killed_in_the_middle_of_a_start_gives_the_slice_back(hubs: Hub, service: Gpus) -> None:
    """The lease is written down before the server is started: the next hub ends a server that nobody could reach."""
    service.may_confirm.clear()
    service.confirming.clear()
    try:
        start(hubs, "gino", {"gpu": service.grant("g1", "gino")})
        assert service.confirming.wait(120)
        hubs.kill_hub()
    finally:
        service.may_confirm.set()
    process = Path(f"/proc/{record(hubs, 'server.gino')['pid']}")
    hubs.start_hub()
    wait_for(lambda: service.leases["g1"].state == "ended", 120, "the release")
    wait_for(lambda: not hubs.server("gino"), 60, "the server's end")
    assert not process.exists()
