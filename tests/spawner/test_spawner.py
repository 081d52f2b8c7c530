"""The spawner in a real hub, with real servers."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hubbing import Hub, hub
from running import wait_for
from specola.core import processinfo


@pytest.fixture(scope="module")
def hubs() -> Iterator[Hub]:
    with hub({"servers": {"memory_gib": 2, "cores": 1.5}, "groups": {"big": {"memory_gib": 3}}}) as running:
        yield running


def programs(running: Hub, prefix: str) -> list[str]:
    """Records whose key begins so: the tests share a hub, and come in any order."""
    return sorted(path.name for path in (running.place.layout.run / "programs").glob(f"{prefix}*"))


def test_server_runs_survives_the_hub_and_stops(hubs: Hub) -> None:
    """A server and its kernel outlive kill -9 of the hub, which takes them over again; stopping ends both."""
    hubs.spawn("anna")
    kernel = hubs.jupyter("POST", "anna", "kernels", json={"name": "python3"}).json()["id"]
    status = hubs.jupyter("GET", "anna", "status").json()
    before = hubs.server("anna")
    hubs.kill_hub()
    assert hubs.jupyter("GET", "anna", "kernels").json()[0]["id"] == kernel
    hubs.start_hub()
    wait_for(lambda: hubs.server("anna").get("ready"), 120, "the hub to look at the server")
    assert hubs.server("anna")["started"] == before["started"]
    assert hubs.jupyter("GET", "anna", "status").json()["started"] == status["started"]
    assert programs(hubs, "server.anna") == ["server.anna"]
    record = json.loads((hubs.place.layout.run / "programs" / "server.anna").read_text())
    hubs.stop_server("anna")
    wait_for(lambda: not programs(hubs, "server.anna"), 60, "the end of the record")
    if record["uid"] != 0:
        wait_for(lambda: not processinfo.of_account(record["uid"]), 60, "the end of all that she ran")


def test_server_that_died_is_noticed(hubs: Hub) -> None:
    hubs.spawn("bruno", "second")
    (name,) = programs(hubs, "server.bruno.second")
    record = json.loads((hubs.place.layout.run / "programs" / name).read_text())
    os.kill(record["pid"], 9)
    wait_for(lambda: not hubs.server("bruno", "second"), 120, "the hub to notice")


def test_unknown_is_not_dead(hubs: Hub) -> None:
    """While the launcher is away, no server is taken for dead."""
    hubs.spawn("dora")
    hubs.place.kill()
    time.sleep(8)
    assert hubs.server("dora")["ready"]
    hubs.place.start()
    assert hubs.jupyter("GET", "dora", "status").is_success
    hubs.stop_server("dora")


def test_environment_holds_nothing_of_the_facility(hubs: Hub) -> None:
    hubs.spawn("elio")
    record = json.loads((hubs.place.layout.run / "programs" / "server.elio").read_text())
    content = Path(f"/proc/{record['pid']}/environ").read_text()
    env = dict(line.partition("=")[::2] for line in content.split("\0") if line)
    assert not [name for name in env if name.startswith(("CONFIGPROXY", "SUPERVISOR", "HUB_FOR_TEST"))]
    assert env["MEM_LIMIT"] == str(2 * 1024**3)
    assert env["HOME"] == record["home"]
    hubs.stop_server("elio")


def test_progress_is_told_in_words(hubs: Hub) -> None:
    hubs.ask("POST", "users/carla")
    said: list[dict[str, object]] = []

    def listen() -> None:
        url = f"{hubs.settings['hub']}/hub/api/users/carla/server/progress"
        headers = {"Authorization": "token test-token-of-the-test"}
        with httpx.stream("GET", url, headers=headers, timeout=180) as events:
            said.extend(json.loads(line[5:]) for line in events.iter_lines() if line.startswith("data:"))

    hubs.ask("POST", "users/carla/server")
    listener = threading.Thread(target=listen)
    listener.start()
    listener.join(180)
    words = [str(event["message"]) for event in said]
    assert any("account" in text and "2 GiB of memory and 1.5 cores" in text for text in words), words
    assert said[-1].get("ready") is True
    progress = [int(str(event["progress"])) for event in said]
    assert progress == sorted(progress)
    hubs.stop_server("carla")
