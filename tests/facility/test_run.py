"""What `specola up` does when a start does not succeed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from specola.cli import run
from specola.core.errors import StateError, Unavailable
from specola.core.layout import Layout
from specola.facility import supervisor
from specola.facility.runtime import Runtime


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was ended: the facility's processes alone, or people's programs with them."""
    heard: list[str] = []
    monkeypatch.setattr(supervisor, "start", lambda runtime: None)
    monkeypatch.setattr(supervisor, "stop_processes", lambda layout: heard.append("processes"))
    monkeypatch.setattr(supervisor, "stop", lambda runtime: heard.append("programs too"))
    return heard


def fails(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def wait_ready(runtime: Runtime, tell: object) -> None:
        raise error

    monkeypatch.setattr(supervisor, "wait_ready", wait_ready)


def test_a_start_that_fails_leaves_what_people_run(
    runtime_of: Callable[..., Runtime], monkeypatch: pytest.MonkeyPatch, ended: list[str]
) -> None:
    """After kill -9 of the supervisor servers live on; a hub that is slow to come back must not cost them."""
    fails(monkeypatch, StateError("hub does not answer"))
    with pytest.raises(StateError, match="hub does not answer"):
        run.start(runtime_of())
    assert ended == ["processes"]


def test_ctrl_c_while_it_starts_ends_all(
    runtime_of: Callable[..., Runtime], monkeypatch: pytest.MonkeyPatch, ended: list[str]
) -> None:
    fails(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run.start(runtime_of())
    assert ended == ["programs too"]


def test_what_people_run_is_counted_by_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each GPU kernel and server is one; what the launcher cannot say is not guessed."""

    class Answers:
        def __init__(self, socket: Path, wait: float) -> None:
            pass

        async def keys(self) -> list[str]:
            if trouble:
                raise Unavailable("The launcher does not answer")
            return ["server.anna", "server.bob.second", "gpu.ab12", "gpu-site.farm.cd", "cluster.x.worker.1", "odd"]

    trouble: list[str] = []
    monkeypatch.setattr(run, "Launcher", Answers)
    assert run.programs(Layout(Path("/none"))) == {
        "Dask process": 1,
        "GPU kernel": 1,
        "GPU kernel at a site": 1,
        "notebook server": 2,
        "other": 1,
    }
    trouble.append("it is away")
    assert run.programs(Layout(Path("/none"))) is None
