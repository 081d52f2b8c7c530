"""The smaller parts: offers, limits, listeners, processes, the client."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from launching import Place
from running import wait_for
from specola.client.launcher import LauncherError
from specola.core import processinfo
from specola.core.errors import BadInput, SpecolaError
from specola.facility.model import Facility
from specola.launcher import asked
from specola.launcher.limits import Controller, Limits, _cpu_v1, _memory_v1, controllers
from specola.launcher.server import Server, serve
from specola_spawner.listeners import listening_uids
from specola_spawner.local import LauncherSpawner
from specola_spawner.offer import Offer, amounts, form, most, offer

FACILITY = Facility.model_validate(
    {"servers": {"memory_gib": 4, "cores": 2}, "groups": {"small": {"memory_gib": 2}, "big": {"memory_gib": 16}}}
)


@pytest.mark.parametrize(
    ("groups", "memory"), [([], 4), (["small"], 4), (["big"], 16), (["small", "big"], 16), (["elsewhere"], 4)]
)
def test_offer_is_the_most_that_any_group_gives(groups: list[str], memory: float) -> None:
    assert offer(FACILITY, groups) == Offer(memory_gib=memory, cores=2)


def test_no_limit_is_more_than_any() -> None:
    assert most(None, [4.0]) is None


def test_offer_in_words() -> None:
    assert form(Offer(None, None)) == ""
    assert "ask for that on the start page" in form(Offer(None, None, gpus=True))
    assert form(Offer(4, 2)) == "<p>Your server gets 4 GiB of memory and 2 cores.</p>"
    assert amounts(Offer(0.5, None)) == "0.5 GiB of memory"
    assert amounts(Offer(None, 1.5)) == "1.5 cores"


def test_listener_is_known_by_its_account(tmp_path: Path) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
        assert listening_uids(port) == set()
        one.listen()
        assert listening_uids(port) == {os.getuid()}
        assert listening_uids(port, (tmp_path / "none",)) == set()


async def test_server_is_not_routed_to_a_port_of_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another account that was first on the chosen port gets no request of the owner's."""
    calls: list[str] = []

    class Fake:
        async def account(self, person: str) -> SimpleNamespace:
            return SimpleNamespace(uid=30_000, name="sp-anna")

        async def end(self, key: str, *, grace: float = 0) -> None:
            calls.append("end")

        async def start(self, *args: object, **more: object) -> SimpleNamespace:
            calls.append("start")
            return SimpleNamespace(account="sp-anna", limits={})

    uids = iter([{40_000}, {40_000, 30_000}, {30_000}])
    monkeypatch.setattr("specola_spawner.local.listening_uids", lambda port: next(uids))
    monkeypatch.setattr(LauncherSpawner, "launcher", Fake())
    monkeypatch.setattr(LauncherSpawner, "get_env", lambda self: {})
    user = SimpleNamespace(name="anna", groups=[])
    runtime = SimpleNamespace(facility=FACILITY, addresses=SimpleNamespace(env=Path("/env")))
    spawner = LauncherSpawner(user=user, runtime=runtime, _deprecated_db_session=None)
    monkeypatch.setattr(LauncherSpawner, "get_args", lambda self: [])
    assert (await spawner.start())[0] == "127.0.0.1"
    assert calls == ["end", "start", "end", "start", "end", "start"]
    assert spawner.mem_limit == 4 << 30


# limits


def fake(tmp_path: Path) -> dict[str, Controller]:
    return {"memory": Controller(tmp_path, _memory_v1), "cpu": Controller(tmp_path / "absent", _cpu_v1)}


def test_limit_without_groups_is_advisory(tmp_path: Path) -> None:
    limits = Limits("f", fake(tmp_path))
    box = limits.box("server.anna", 2, 1)
    assert box.effects == {"memory": "enforced", "cpu": "advisory"}
    group = tmp_path / "specola-f" / "server.anna"
    assert (group / "memory.limit_in_bytes").read_text() == str(2 << 30)
    (group / "memory.limit_in_bytes").unlink()
    limits.remove_all()
    assert not group.exists()
    assert Limits("f", {}).box("a", 1, None).effects == {"memory": "advisory", "cpu": "none"}


def test_limit_that_cannot_be_written_is_advisory(tmp_path: Path) -> None:
    group = tmp_path / "specola-f" / "a"
    (group / "memory.limit_in_bytes").mkdir(parents=True)
    assert Limits("f", fake(tmp_path)).box("a", 2, None).effects["memory"] == "advisory"


def test_group_that_is_not_empty_stays(tmp_path: Path) -> None:
    limits = Limits("f", fake(tmp_path))
    limits.box("a", 2, None)
    limits.remove("a")
    assert (tmp_path / "specola-f" / "a").exists()
    assert limits.members("a") == set()


def test_both_versions_of_control_groups_are_found(tmp_path: Path) -> None:
    unified = tmp_path / "unified"
    unified.mkdir()
    (unified / "cgroup.controllers").write_text("cpu memory pids")
    (unified / "cgroup.subtree_control").write_text("")
    table = tmp_path / "mountinfo"
    table.write_text(f"30 1 0:1 / {unified} rw - cgroup2 none rw\n31 1 0:1 / /x rw - ext4 none rw\n")
    found = controllers(table)
    assert {name: one.base for name, one in found.items()} == {"memory": unified, "cpu": unified}
    box = Limits("f", found).box("a", 1, 1.5)
    assert box.effects == {"memory": "enforced", "cpu": "enforced"}
    assert (box.groups[0] / "cpu.max").read_text() == "150000 100000"
    assert (unified / "cgroup.subtree_control").read_text() in {"+memory", "+cpu"}
    table.write_text("30 1 0:1 / /m rw - cgroup none rw,memory\n31 1 0:1 / /c rw - cgroup none rw,cpu,cpuacct\n")
    assert {name: str(one.base) for name, one in controllers(table).items()} == {"memory": "/m", "cpu": "/c"}
    assert controllers(tmp_path / "none") == {}


# processes


def test_process_is_known_by_pid_and_start_time() -> None:
    with subprocess.Popen(["/bin/sleep", "60"], env={"MINE": "yes"}, start_new_session=True) as child:
        own = processinfo.identity(child.pid)
        assert own is not None
        assert processinfo.alive(own)
        assert not processinfo.alive(processinfo.Identity(child.pid, own.start + 1))
        assert child.pid in processinfo.children(os.getpid())
        assert processinfo.session(child.pid) == child.pid
        assert processinfo.owner(child.pid) == os.getuid()
        # the kernel lays a new program's environment out after it has let its starter go on
        wait_for(lambda: processinfo.variable(child.pid, "MINE") == "yes", 60, "its environment")
        assert processinfo.variable(child.pid, "OTHER") is None
        child.kill()
        while processinfo.alive(own):
            pass
        assert processinfo.session(child.pid) is None
        assert processinfo.parent(child.pid) is None
    assert processinfo.identity(child.pid) is None
    assert processinfo.owner(child.pid) is None
    assert processinfo.variable(child.pid, "MINE") is None


# requests


def test_numbers_are_checked() -> None:
    with pytest.raises(BadInput):
        asked.number("signum", 65, low=1, high=64)
    with pytest.raises(BadInput):
        asked.number("signum", True, low=1, high=64)
    assert asked.prefix("") == ""
    assert asked.directory("/tmp") == "/tmp"
    with pytest.raises(BadInput):
        asked.text("x", 7)
    with pytest.raises(BadInput):
        asked.env([])
    with pytest.raises(BadInput):
        asked.files([])


async def test_socket_path_that_is_too_long_is_said(tmp_path: Path) -> None:
    with pytest.raises(SpecolaError, match="too long"):
        await serve(tmp_path / ("x" * 120), Server(None, frozenset()), None)  # type: ignore[arg-type]


async def test_strangers_are_refused(inside: Place) -> None:
    """Even on a socket that somebody opened too far, the kernel's word for the caller counts."""
    path = inside.top / "other.sock"
    listening = await serve(path, Server(None, frozenset({1})), None)  # type: ignore[arg-type]
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b'{"verb": "keys"}\n')
    assert b"forbidden" in await reader.readline()
    writer.close()
    listening.close()


async def test_trouble_of_the_machine_is_told(inside: Place) -> None:
    (inside.layout.run / "logs" / "server.anna.log").symlink_to("/etc/passwd")
    with pytest.raises(LauncherError, match="refused"):
        await inside.client().start("server.anna", "anna", ["/bin/true"], {})


async def test_memory_limit_is_told(inside: Place) -> None:
    started = await inside.client().start("server.anna", "anna", ["/bin/sleep", "60"], {}, memory_gib=1, log="server.b")
    assert started.limits["memory"] in {"enforced", "advisory"}
    assert started.limits["cpu"] == "none"
    assert (inside.layout.run / "logs" / "server.b.log").exists()
