"""What `specola up` does when a start does not succeed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from specola.cli import run
from specola.core.errors import StateError
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
