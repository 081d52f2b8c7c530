"""`specola scaleout`: an operator sees who computes, and ends it."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from apirig import Rig, serving
from click.testing import CliRunner, Result
from specola.cli import main
from specola.facility.runtime import addresses_file

Cluster = dict[str, Any]


def cluster(person: str, name: str, workers: dict[str, int], status: str = "running") -> Cluster:
    return {
        "name": name,
        "site": "here",
        "environment": "default",
        "status": status,
        "started": 1.0,
        "person": person,
        "workers": workers,
    }


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A service with the state directory that a command needs."""
    async with serving(tmp_path) as running:
        layout = running.runtime.layout
        addresses_file(layout).write_text(running.runtime.addresses.model_dump_json())
        layout.facility_file.write_text("{}")
        yield running


async def run(state: Path, *words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, ["scaleout", *words, "--state", str(state)])


async def test_people_are_listed_with_what_they_run(rig: Rig) -> None:
    """What has ended does not count; workers on their way do."""
    rig.state.clusters += [
        cluster("bob", "b1", {"wanted": 4, "running": 2, "starting": 1}),
        cluster("bob", "b2", {"wanted": 1, "running": 1}, status="stopping"),
        cluster("bob", "b3", {"wanted": 9, "running": 9}, status="stopped"),
        cluster("anna", "a1", {"wanted": 1}, status="pending"),
    ]
    state = rig.runtime.layout.state
    listed = await run(state, "people")
    assert listed.exit_code == 0, listed.output
    assert [line.split() for line in listed.output.splitlines()] == [
        ["name", "clusters", "workers"],
        ["anna", "1", "0"],
        ["bob", "2", "4"],
    ]
    assert json.loads((await run(state, "people", "--json")).output) == {
        "people": [
            {"name": "anna", "clusters": 1, "workers": 0, "gpus": 0},
            {"name": "bob", "clusters": 2, "workers": 4, "gpus": 0},
        ]
    }


async def test_all_clusters_of_a_person_are_stopped(rig: Rig) -> None:
    rig.state.clusters += [cluster("bob", "b1", {}), cluster("bob", "b2", {}), cluster("anna", "a1", {})]
    state = rig.runtime.layout.state
    assert (await run(state, "stop", "bob")).output == "Told to stop: b1, b2\n"
    assert (await run(state, "stop", "bob")).output == "bob has no cluster.\n"
    assert [one["person"] for one in rig.state.clusters] == ["anna"]
    rig.state.clusters.clear()
    assert (await run(state, "people")).output == "Nobody has a cluster.\n"


async def test_the_token_goes_through_no_proxy_of_the_environment(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await run(rig.runtime.layout.state, "people")).exit_code == 0


async def test_a_facility_that_is_down_is_said(rig: Rig, tmp_path: Path) -> None:
    await rig.service.stop(0)
    shown = await run(rig.runtime.layout.state, "people")
    assert shown.exit_code == 2
    assert shown.output == "specola: The facility does not answer: Is it running? `specola status` says.\n"
    nowhere = await run(tmp_path / "nowhere", "people")
    assert nowhere.exit_code == 2
    assert "there is no facility in" in nowhere.output


async def test_a_state_without_its_secret_is_said(rig: Rig) -> None:
    shutil.rmtree(rig.runtime.layout.secrets)
    shown = await run(rig.runtime.layout.state, "stop", "bob")
    assert shown.exit_code == 2
    assert "cannot read" in shown.output
