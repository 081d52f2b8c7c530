"""A right that ends at the issuer ends here: server, cluster, tokens and cookie, within the re-check interval."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from running import TOP, Facility, started, wait_for

pytestmark = [pytest.mark.journey, pytest.mark.needs_root]


def demo(**identity: object) -> dict[str, object]:
    document = yaml.safe_load((TOP / "examples/demo.yaml").read_text())
    document["identity"] |= identity
    return document


@pytest.fixture(scope="module")
def facility() -> Iterator[Facility]:
    with started(text=yaml.safe_dump(demo(recheck_interval=10))) as running:
        yield running


def test_a_person_taken_from_the_issuer_loses_server_and_cluster(facility: Facility, tmp_path: Path) -> None:
    """The operator removes anna from the facility file and restarts; hers stop, marco's go on."""
    anna, marco = facility.login("anna"), facility.login("marco")
    for one in (anna, marco):
        one.start_server()
    assert anna.api("POST", "scaleout/clusters", json={"workers": 1}).status_code == 202
    wait_for(lambda: anna.api("GET", "scaleout/clusters").json()["items"][0]["status"] == "running", 180)
    account = facility.home_of("anna").owner()
    wait_for(lambda: len(processes(account)) >= 3, 180, "server, scheduler and worker")
    document = demo(recheck_interval=10)
    people = document["identity"]["people"]  # type: ignore[index]
    document["identity"]["people"] = [one for one in people if one["name"] != "anna"]  # type: ignore[index]
    (tmp_path / "f.yaml").write_text(yaml.safe_dump(document))
    facility.specola("restart", "--facility", str(tmp_path / "f.yaml"), "--state", str(facility.state))
    service = {"Authorization": "token " + (facility.state / "secrets/service").read_text().strip()}

    def hers() -> bool:
        return bool(httpx.get(f"{facility.url}hub/api/users/anna", headers=service, timeout=120).json().get("servers"))

    wait_for(lambda: not hers(), 180, "the end of anna's server")
    wait_for(lambda: not processes(account), 180, "the end of what anna runs")
    wait_for(lambda: anna.api("GET", "me").status_code in {401, 403}, 60, "the end of her token")
    wait_for(lambda: "/authorize" in str(anna.http.get(f"{facility.url}services/specola/").url), 60, "a new login")
    wait_for(marco.server_ready, 60, "marco's server")


def processes(account: str) -> list[str]:
    return subprocess.run(["pgrep", "-u", account], capture_output=True, text=True, check=False).stdout.split()
