"""The spawner alone, against a launcher that answers what it is told to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jupyterhub.utils import format_exception
from specola.client.launcher import Alive, Gone, LauncherError
from specola.core.errors import Unavailable
from specola.core.layout import Layout
from specola.facility.model import Facility
from specola_spawner import local
from specola_spawner.local import LauncherSpawner, SpawnException


class Answers:
    """A launcher that answers what it is told to."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __getattr__(self, verb: str) -> Any:
        async def ask(*_: object, **__: object) -> Any:
            self.asked.append(verb)
            answer = self.answers.get(verb)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return ask


@pytest.fixture
def spawner(monkeypatch: pytest.MonkeyPatch) -> LauncherSpawner:
    runtime = SimpleNamespace(
        facility=Facility.model_validate({}), addresses=SimpleNamespace(env=Path("/env")), layout=Layout(Path("/none"))
    )
    monkeypatch.setattr(LauncherSpawner, "get_env", lambda self: {})
    monkeypatch.setattr(LauncherSpawner, "get_args", lambda self: [])
    monkeypatch.setattr(local, "LOOK_EVERY", 0.01)
    user = SimpleNamespace(name="anna", groups=[])
    return LauncherSpawner(user=user, runtime=runtime, _deprecated_db_session=None)


def answering(monkeypatch: pytest.MonkeyPatch, **answers: Any) -> Answers:
    account = SimpleNamespace(uid=30_000, name="sp-anna")
    begun = SimpleNamespace(account="sp-anna", limits={"memory": "advisory"})
    fake = Answers(**({"account": account, "start": begun, "poll": Alive(7)} | answers))
    monkeypatch.setattr(LauncherSpawner, "launcher", fake)
    monkeypatch.setattr(local, "Launcher", lambda socket, wait: fake)
    return fake


async def test_no_port_free_of_others_is_said(spawner: LauncherSpawner, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = answering(monkeypatch)
    monkeypatch.setattr(local, "listening_uids", lambda port: {40_000})
    with pytest.raises(SpawnException, match="No free port"):
        await spawner.start()
    assert fake.asked.count("start") == local.PORT_TRIES
    assert "cannot enforce" in spawner._steps[-1]["message"]


@pytest.mark.parametrize(
    ("error", "words"),
    [(Unavailable("The launcher does not answer", "Wait."), "does not answer"), (LauncherError("uid"), "operator")],
)
async def test_trouble_is_told_in_words_for_the_person(
    spawner: LauncherSpawner, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    answering(monkeypatch, account=error)
    with pytest.raises(SpawnException) as raised:
        await spawner.start()
    assert words in raised.value.message
    assert format_exception(raised.value)[0] == raised.value.message


async def test_server_that_ends_while_it_starts_is_told(
    spawner: LauncherSpawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, poll=Gone(1), log="ImportError: lab")
    monkeypatch.setattr(local, "listening_uids", lambda port: set())
    with pytest.raises(SpawnException, match="ImportError: lab") as raised:
        await spawner.start()
    assert "ended while it started" in raised.value.message


async def test_slow_start_is_told_every_three_seconds(
    spawner: LauncherSpawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch)
    looks = iter([set(), set(), {30_000}])
    clock = iter([0.0, 1.0, 4.0])
    monkeypatch.setattr(local, "listening_uids", lambda port: next(looks))
    fake = SimpleNamespace(get_running_loop=lambda: SimpleNamespace(time=lambda: next(clock)), sleep=asyncio.sleep)
    monkeypatch.setattr(local, "asyncio", fake)
    await spawner.start()
    assert [step["message"] for step in spawner._steps][-2:] == [
        "JupyterLab loads its parts (4 s)",
        "JupyterLab answers, opening the way to it",
    ]


@pytest.mark.parametrize(
    ("answer", "said"), [(Alive(7), None), (Gone(None), 0), (Gone(3), 3), (Unavailable("Nobody"), None)]
)
async def test_only_a_launcher_that_knows_says_that_a_server_is_gone(
    spawner: LauncherSpawner, monkeypatch: pytest.MonkeyPatch, answer: Any, said: int | None
) -> None:
    answering(monkeypatch, poll=answer)
    assert await spawner.poll() == said


async def test_what_the_hub_keeps_of_a_server(spawner: LauncherSpawner, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = answering(monkeypatch)
    spawner.load_state({"limits": {"memory": "enforced"}})
    assert spawner.get_state()["limits"] == {"memory": "enforced"}
    await spawner.stop(now=True)
    await spawner.stop()
    assert fake.asked == ["end", "end"]
    spawner._step(5, "one")
    steps = spawner.progress()
    assert await anext(steps) == {"progress": 5, "message": "one"}
    asyncio.get_running_loop().call_later(0.03, spawner._step, 9, "two")
    assert (await anext(steps))["message"] == "two"


def test_runtime_is_read_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    read = SimpleNamespace(facility=Facility.model_validate({}), layout=Layout(Path("/none")))
    local._runtime.cache_clear()
    monkeypatch.setattr(local, "load_runtime", lambda: read)
    spawner = LauncherSpawner(user=SimpleNamespace(name="anna", groups=[]), _deprecated_db_session=None)
    assert spawner.runtime is read
    assert "server" in spawner.options_form(spawner) or spawner.options_form(spawner) == ""
    assert spawner.key == "server.anna"
    local._runtime.cache_clear()
