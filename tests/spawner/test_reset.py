"""`specola reset` removes what a facility made, and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from launching import Place, launcher, place
from specola.cli.reset import reset
from specola.client.launcher import Launcher
from specola.core import processinfo
from specola.core.accounts import Ledger, account_exists, group_exists, runtime_base
from specola.core.errors import Conflict, SpecolaError
from specola.facility import supervisor
from specola.facility.runtime import Ports
from specola.launcher.reset import is_up, remains
from specola.launcher.reset import reset as remove

SLEEP = ["/bin/sleep", "600"]


def command(here: Place, *more: str, answer: str | None = None) -> str:
    options = ["--state", str(here.layout.state), "--ledger", str(here.ledger), *more]
    done = CliRunner().invoke(reset, options, input=answer)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


@pytest.mark.needs_root
def test_reset_lists_and_removes_everything_of_one_facility() -> None:
    with launcher() as here, launcher() as other:
        started = asyncio.run(here.client().start("server.anna", "anna", SLEEP, {}))
        kept = asyncio.run(other.client().start("server.anna", "anna", SLEEP, {}))
        uid = processinfo.owner(started.pid)
        here.layout.state.mkdir()
        listed = command(here, "--dry-run")
        for word in (f"process    {started.pid}", f"account    {started.account}", f"home       {started.home}"):
            assert word in listed
        assert str(here.layout.state) in listed
        assert processinfo.identity(started.pid)
        assert "Aborted" in command(here, answer="n\n")
        here.stop()
        assert "Removed." in command(here, answer="y\n")
        assert processinfo.identity(started.pid) is None
        assert not account_exists(started.account)
        assert not group_exists(started.account)
        for path in (started.home, started.files, here.layout.state, here.layout.run):
            assert not path.exists()
        assert "Nothing is left" in command(here, "--yes")
        with Ledger(here.ledger).locked() as book:
            assert [entry.uid for entry in book.entries if entry.removed] == [uid]
        assert processinfo.identity(kept.pid)
        assert account_exists(kept.account)
        assert kept.home.is_dir()


@pytest.mark.needs_root
def test_person_who_comes_back_gets_another_uid() -> None:
    with launcher() as here:
        before = asyncio.run(here.client().account("anna"))
        here.stop()
        command(here, "--yes")
        here.start()
        after = asyncio.run(here.client().account("anna"))
        assert after.uid > before.uid
        assert list(after.home.glob("*.txt")) == []


def test_reset_refuses_while_the_facility_is_up() -> None:
    with place() as here:
        here.layout.run.mkdir(parents=True)
        program = here.top / "supervisord"
        program.write_text("#!/bin/sh\nsleep 60\n")
        program.chmod(0o755)
        with subprocess.Popen([program]) as supervisor:
            (here.layout.run / "supervisord.pid").write_text(str(supervisor.pid))
            while not is_up(here.layout):  # right after exec a command line is still empty
                time.sleep(0.01)
            with pytest.raises(Conflict):
                command(here, "--yes")
            supervisor.kill()


def test_processes_of_the_facility_itself_are_ended() -> None:
    with place() as here:
        pids = here.layout.state / "pids"
        pids.mkdir(parents=True)
        (pids / "nonsense").write_text("x")
        with subprocess.Popen(SLEEP) as child:
            while not (found := processinfo.identity(child.pid)):
                time.sleep(0.01)
            (pids / "hub").write_text(f"{found.pid} {found.start}")
            assert f"process    {child.pid}" in command(here, "--dry-run")
            command(here, "--yes")
            assert child.wait(120) == -9


async def nothing(*_: object, **__: object) -> list[str]:
    return []


def test_stop_ends_what_was_started_while_the_rest_was_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a gateway does for a worker that ends; and on a machine that has rebooted there is nothing to end."""
    with launcher() as here:
        started = asyncio.run(here.client().start("cluster.c.worker.1", "anna", SLEEP, {}))
        monkeypatch.setattr(Launcher, "end_all", nothing)
        runtime = SimpleNamespace(layout=here.layout, homes=here.layout.homes)
        assert supervisor.stop(runtime) == []  # type: ignore[arg-type]
        assert processinfo.identity(started.pid) is None
    with place() as here:
        assert supervisor.stop(SimpleNamespace(layout=here.layout, homes=here.layout.homes)) == []  # type: ignore[arg-type]
        assert not (here.layout.run / "programs").exists()


@pytest.mark.needs_root
def test_home_that_is_not_ours_any_more_is_left_alone() -> None:
    with launcher() as here:
        home = asyncio.run(here.client().account("anna")).home
        here.stop()
        home.rename(home.with_name("moved"))
        home.symlink_to("/etc")
        ledger = Ledger(here.ledger)
        with pytest.raises(SpecolaError, match="left alone"):
            remove(here.layout, ledger, remains(here.layout, ledger))
        assert Path("/etc/passwd").exists()
        home.unlink()
        command(here, "--yes")
        assert os.path.lexists(home.with_name("moved"))


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch) -> int:
    """Somebody who is not root."""
    me = os.geteuid() or 4711
    monkeypatch.setattr(os, "geteuid", lambda: me)
    return me


def test_homes_elsewhere_are_removed_one_by_one(ordinary: int) -> None:
    """Without accounts no ledger knows them: only what this facility furnished is a home of it."""
    with place() as here:
        homes, state = here.top / "elsewhere", here.layout.state
        state.mkdir()
        (state / "facility.yaml").write_text(f"homes: {{path: {homes}}}")
        ports = dict.fromkeys(Ports.model_fields, 1)
        addresses = {"ports": ports, "public_url": "http://localhost/", "env": "/usr", "separate_accounts": False}
        (state / "runtime.json").write_text(json.dumps(addresses))
        runtime = runtime_base(here.layout, ordinary)
        ours = [homes / "anna", homes / "luca"]
        for home in ours:
            home.mkdir(parents=True)
            (home / ".specola").symlink_to(runtime / home.name / "keys")
        kept = [homes / "photos", homes / "of-another-facility", homes / "a-link"]
        for path in kept[:2]:
            path.mkdir()
        (kept[1] / ".specola").symlink_to("/tmp/specola-1-ffffffff/of-another-facility/keys")
        kept[2].symlink_to(ours[0])
        for path in (*ours, *kept):
            os.chown(path, ordinary if os.getuid() == 0 else -1, -1, follow_symlinks=False)
        listed = command(here, "--dry-run").splitlines()
        assert [line.split()[1] for line in listed if line.startswith("home")] == [str(home) for home in ours]
        assert "Removed." in command(here, "--yes")
        assert sorted(homes.iterdir()) == sorted(kept)
        assert not state.exists()


def test_a_facility_file_that_is_broken_stops_no_reset(ordinary: int) -> None:
    with place() as here:
        here.layout.state.mkdir()
        (here.layout.state / "facility.yaml").write_text("nonsense: true")
        (here.layout.state / "runtime.json").write_text("{}")
        assert "Removed." in command(here, "--yes")
        assert not here.layout.state.exists()
