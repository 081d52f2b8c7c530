"""The slice of a server: the spawner alone, beside a launcher that answers what it is told and a strict service."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakegpus import TOKEN, Gpus, gpu_service
from jupyterhub import orm
from running import wait_for
from specola.client.launcher import Alive, Gone, LauncherError
from specola.core.layout import Layout
from specola.facility.model import Facility
from specola_spawner import gpu, local
from specola_spawner.gpu import NO_GPU, Leases, Slice, give_back, taken
from specola_spawner.local import LauncherSpawner, SpawnException

UID = 30_000


class Launcher:
    """Starts everything at once, and remembers with which environment."""

    def __init__(self) -> None:
        self.env: dict[str, str] = {}
        self.fails = False
        self.state: Any = Alive(7)

    async def account(self, person: str) -> Any:
        return SimpleNamespace(uid=UID, name=f"sp-{person}")

    async def end(self, key: str, *, grace: float) -> Gone:
        return Gone(0)

    async def start(self, key: str, person: str, argv: list[str], env: dict[str, str], **_: Any) -> Any:
        self.env = env
        if self.fails:
            raise LauncherError("no such account")
        return SimpleNamespace(account=f"sp-{person}", limits={})

    async def poll(self, key: str) -> Any:
        return self.state


@pytest.fixture
def service() -> Iterator[Gpus]:
    with gpu_service() as running:
        yield running


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> Launcher:
    fake = Launcher()
    monkeypatch.setattr(LauncherSpawner, "launcher", fake)
    monkeypatch.setattr(local, "Launcher", lambda socket, wait: fake)
    monkeypatch.setattr(local, "listening_uids", lambda port: {UID})
    monkeypatch.setattr(LauncherSpawner, "get_args", lambda self: [])
    monkeypatch.setattr(local.Spawner, "get_env", lambda self: {"CUDA_VISIBLE_DEVICES": "0", "LANG": "C"})
    monkeypatch.setattr(gpu, "FIRST_PAUSE", 0.02)
    return fake


@pytest.fixture
def spawner(service: Gpus, launcher: Launcher, tmp_path: Path) -> LauncherSpawner:
    return spawner_of("anna", service, tmp_path)


def spawner_of(person: str, service: Gpus, tmp_path: Path, **more: Any) -> LauncherSpawner:
    layout = Layout(tmp_path / "state")
    layout.secrets.mkdir(parents=True, exist_ok=True)
    (layout.secrets / "service").write_text(TOKEN)
    runtime = SimpleNamespace(
        facility=Facility.model_validate({}),
        addresses=SimpleNamespace(env=Path("/env")),
        layout=layout,
        service_url=service.url,
    )
    user = SimpleNamespace(name=person, groups=[])
    return LauncherSpawner(user=user, runtime=runtime, _deprecated_db_session=None, **more)


async def ended(spawner: LauncherSpawner) -> None:
    """What the hub does at each end of a server, and the answers that it does not wait for."""
    spawner.clear_state()
    await asyncio.gather(*gpu._returning)


def said(spawner: LauncherSpawner) -> str:
    return "\n".join(step["message"] for step in spawner._steps)


async def test_a_server_without_a_grant_sees_no_gpu(
    spawner: LauncherSpawner, launcher: Launcher, service: Gpus
) -> None:
    """Whatever the hub's environment says; and nobody is asked."""
    await spawner.start()
    assert NO_GPU.items() <= launcher.env.items()
    assert launcher.env["LANG"] == "C"
    assert service.calls == []
    assert "GPU" not in said(spawner)


async def test_a_grant_becomes_the_environment_a_confirmed_lease_and_at_the_end_nothing(
    spawner: LauncherSpawner, launcher: Launcher, service: Gpus
) -> None:
    spawner.user_options = {"gpu": service.grant("l1", "anna")}
    await spawner.start()
    assert launcher.env["CUDA_VISIBLE_DEVICES"] == "MIG-7"
    assert launcher.env["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert "1g.5gb of an A100-40GB, simulated" in said(spawner)
    assert service.leases["l1"].state == "active"
    assert spawner.get_state()["slice"] == {"lease": "l1", "token": 2, "up": True, "confirmed": True}
    await ended(spawner)
    assert service.leases["l1"].state == "ended"
    assert spawner.get_state()["slice"] is None


async def test_a_used_grant_is_not_tried_again_and_the_next_start_says_why_it_has_no_gpu(
    spawner: LauncherSpawner, launcher: Launcher, service: Gpus
) -> None:
    """The hub gives the options of the last start again when a start names none."""
    database = orm.new_session_factory("sqlite://")()
    kept = orm.Spawner(name="", user=orm.User(name="anna"))
    database.add(kept)
    spawner.orm_spawner = kept
    spawner.user_options = {"gpu": service.grant("l1", "anna"), "colour": "blue"}
    await spawner.start()
    assert not database.dirty, "what a hub that is killed now would forget"
    assert kept.user_options == {"colour": "blue", "gpu_spent": True}
    assert kept.state["slice"]["lease"] == "l1"
    await ended(spawner)
    spawner.user_options = kept.user_options
    await spawner.start()
    assert service.calls.count("POST grants/redeem") == 1
    assert NO_GPU.items() <= launcher.env.items()
    assert "granted for that start only: this one has no GPU" in said(spawner)
    assert kept.user_options == {"colour": "blue"}
    await ended(spawner)
    await spawner.start()
    assert "GPU" not in said(spawner)
    database.close()


@pytest.mark.parametrize(
    ("grant", "words"),
    [
        ("grant-of-bobs", "This GPU grant is not for this server. Ask for a new one in the panel."),
        ("grant-of-other", "This GPU grant is not for this server. Ask for a new one in the panel."),
        ("grant-of-used", "This GPU grant has been used already. Ask for a new one in the panel."),
        ("grant-of-nobody", "This GPU grant is not for this server. Ask for a new one in the panel."),
        ("x" * 257, "What was sent is no grant of a GPU. Ask for the GPU in the panel, and start from there."),
        ("", "What was sent is no grant of a GPU. Ask for the GPU in the panel, and start from there."),
        (["grant-of-used"], "What was sent is no grant of a GPU. Ask for the GPU in the panel, and start from there."),
        ({"a": 1}, "What was sent is no grant of a GPU. Ask for the GPU in the panel, and start from there."),
        (7, "What was sent is no grant of a GPU. Ask for the GPU in the panel, and start from there."),
    ],
    ids=[
        "somebody else's",
        "another server's",
        "used",
        "made up",
        "too long",
        "empty",
        "a list",
        "a mapping",
        "a number",
    ],
)
async def test_a_grant_that_is_none_is_refused_in_one_sentence(
    spawner: LauncherSpawner, launcher: Launcher, service: Gpus, grant: object, words: str
) -> None:
    """And no server starts: not without a GPU either, where one was asked for."""
    service.grant("bobs", "bob")
    service.grant("other", "anna", server="second")
    service.used.add(service.grant("used", "anna"))
    spawner.user_options = {"gpu": grant}
    with pytest.raises(SpawnException) as raised:
        await spawner.start()
    assert raised.value.message == words
    assert launcher.env == {}
    assert {held.state for held in service.leases.values()} == {"offered"}
    await ended(spawner)
    assert {held.state for held in service.leases.values()} == {"offered"}
    assert str(grant) not in raised.value.message or not grant
    await spawner.start()
    assert NO_GPU.items() <= launcher.env.items()


@pytest.mark.parametrize(
    "answer", [{"lease": "l1"}, {"lease": "l1", "token": "x", "environment": {}}, {"environment": 3}]
)
async def test_a_service_that_does_not_answer_is_said_and_costs_no_slice(
    spawner: LauncherSpawner, launcher: Launcher, service: Gpus, answer: dict[str, Any]
) -> None:
    spawner.user_options = {"gpu": service.grant("l1", "anna")}
    service.away = True
    with pytest.raises(SpawnException, match=r"does not answer\. Your slice is kept for you") as raised:
        await spawner.start()
    assert "specola status" not in raised.value.message
    assert launcher.env == {}
    service.away, service.answer = False, answer
    spawner.user_options = {"gpu": "grant-of-l1"}
    with pytest.raises(SpawnException, match="does not answer"):
        await spawner.start()
    await ended(spawner)
    assert "DELETE leases/l1" not in service.calls


async def test_nothing_is_held_after_a_start_that_failed(
    spawner: LauncherSpawner, launcher: Launcher, service: Gpus
) -> None:
    """The hub clears the state of a server that did not start, as that of one that died."""
    launcher.fails = True
    spawner.user_options = {"gpu": service.grant("l1", "anna")}
    with pytest.raises(SpawnException, match="no such account"):
        await spawner.start()
    assert service.leases["l1"].state == "starting"
    await ended(spawner)
    assert service.leases["l1"].state == "ended"


async def test_a_lease_that_ended_meanwhile_fails_the_start(
    spawner: LauncherSpawner, launcher: Launcher, service: Gpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody may compute on a slice that is somebody else's by now."""

    async def start(*_: object, **__: object) -> Any:
        service.leases["l1"].token += 1
        return SimpleNamespace(account="sp-anna", limits={})

    monkeypatch.setattr(launcher, "start", start)
    spawner.user_options = {"gpu": service.grant("l1", "anna")}
    with pytest.raises(SpawnException, match=r"The lease is not yours any more\. It has ended\."):
        await spawner.start()
    await ended(spawner)
    assert service.leases["l1"].token == 3


async def test_a_service_that_is_away_when_the_server_is_up_hears_of_it_later(
    spawner: LauncherSpawner, launcher: Launcher, service: Gpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server goes on meanwhile, over a restart of the hub too."""

    async def start(*_: object, **__: object) -> Any:
        service.away = True
        return SimpleNamespace(account="sp-anna", limits={})

    monkeypatch.setattr(launcher, "start", start)
    spawner.user_options = {"gpu": service.grant("l1", "anna")}
    await spawner.start()
    assert await spawner.poll() is None
    assert service.leases["l1"].state == "starting"
    kept = spawner.get_state()
    spawner._slice = None
    spawner.load_state(kept)
    service.away = False
    assert await spawner.poll() is None
    assert service.leases["l1"].state == "active"
    assert spawner.get_state()["slice"]["confirmed"] is True
    asked = len(service.calls)
    assert await spawner.poll() is None
    assert len(service.calls) == asked


async def test_a_lease_that_ended_unconfirmed_is_not_asked_for_again(
    spawner: LauncherSpawner, launcher: Launcher, service: Gpus
) -> None:
    service.grant("l1", "anna")
    service.leases["l1"].state = "ended"
    spawner.load_state({"slice": {"lease": "l1", "token": 1, "up": True, "confirmed": False}})
    assert await spawner.poll() is None
    assert spawner.get_state()["slice"] is None


async def test_what_a_hub_left_in_the_middle_is_not_confirmed_by_the_next(
    spawner: LauncherSpawner, launcher: Launcher, service: Gpus
) -> None:
    """A server whose start was cut off is ended by the hub; its lease goes back then."""
    service.grant("l1", "anna")
    spawner.load_state({"slice": {"lease": "l1", "token": 1, "up": False, "confirmed": False}})
    assert await spawner.poll() is None
    launcher.state = Gone(1)
    assert await spawner.poll() == 1
    assert service.calls == []
    await ended(spawner)
    assert service.leases["l1"].state == "ended"


async def test_a_slice_is_given_back_as_soon_as_the_service_answers(service: Gpus, launcher: Launcher) -> None:
    service.grant("l1", "anna")
    service.away = True
    task = give_back(Leases(service.url + "api/v1/", TOKEN), Slice("l1", 1))
    await asyncio.to_thread(wait_for, lambda: len(service.calls) >= 3, 20)
    service.away = False
    await task
    assert service.leases["l1"].state == "ended"
    await give_back(Leases(service.url + "api/v1/", TOKEN), Slice("l1", 1))
    await give_back(Leases(service.url + "api/v1/", TOKEN), Slice("gone", 1))


async def test_a_service_that_never_comes_back_finds_out_by_itself(
    service: Gpus, launcher: Launcher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gpu, "GIVE_UP", 0.05)
    service.away = True
    await give_back(Leases(service.url + "api/v1/", TOKEN), Slice("l1", 1))
    assert "is left to the service" in caplog.text


async def test_the_token_goes_through_no_proxy_of_the_environment(
    spawner: LauncherSpawner, service: Gpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    spawner.user_options = {"gpu": service.grant("l1", "anna")}
    await spawner.start()
    assert service.leases["l1"].state == "active"
    await ended(spawner)


def test_a_slice_shows_no_environment_in_logs() -> None:
    assert "MIG" not in repr(Slice("l1", 1, {"CUDA_VISIBLE_DEVICES": "MIG-7"}))


def test_what_is_kept_of_options() -> None:
    assert taken({}) == (None, False, {})
    assert taken({"gpu": "g", "x": 1}) == ("g", False, {"x": 1, "gpu_spent": True})
    assert taken({"gpu_spent": True, "x": 1}) == (None, True, {"x": 1})
    assert Slice.of(None) is None
    assert Slice.of({}) is None


async def test_options_are_nobodys_surprise_in_the_log(spawner: LauncherSpawner) -> None:
    """Without a hook, JupyterHub would warn of options that nobody reads."""
    assert await spawner._run_apply_user_options({"gpu": "x"}) is None


async def test_a_server_whose_start_was_cut_off_is_ended_by_the_next_hub(
    spawner: LauncherSpawner, launcher: Launcher, service: Gpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows where it listens; what an earlier release has kept of a server that runs says nothing of that."""
    kept: list[dict[str, Any]] = []
    monkeypatch.setattr(LauncherSpawner, "_keep", lambda self: kept.append(self.get_state()))
    spawner.user_options = {"gpu": service.grant("l1", "anna")}
    await spawner.start()
    assert [state["started"] for state in kept] == [False, False]
    assert spawner.get_state()["started"] is True
    spawner.load_state(spawner.get_state())
    assert await spawner.poll() is None
    spawner.load_state({"limits": {}})
    assert await spawner.poll() is None
    spawner.load_state(kept[-1])
    assert await spawner.poll() == 0
    await ended(spawner)
    assert service.leases["l1"].state == "ended"
    assert spawner.get_state()["started"] is True
