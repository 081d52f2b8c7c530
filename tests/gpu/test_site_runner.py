"""What is sent to a site, and what its program's log says: without a site, with a launcher made of lists."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from specola.client import launcher
from specola.core.accounts import Account
from specola.core.errors import NotFound, Unavailable
from specola.gpu.adapters import sites
from specola.gpu.adapters.condor import CondorRunner, wanted
from specola.gpu.adapters.profiles import models
from specola.gpu.adapters.sites import RESTARTS, SiteRunner, last_word
from specola.gpu.adapters.slurm import SlurmRunner
from specola.gpu.model import CondorPool, Gone, Running, SlurmPool, Waiting, Work

MODEL = models()["A100-80GB"]


@dataclass
class Launcher:
    """Programs that live until they are ended, with the log that a test gives them."""

    living: set[str] = field(default_factory=set)
    logs: dict[str, str] = field(default_factory=dict)
    started: list[dict[str, Any]] = field(default_factory=list)
    stays: bool = True

    async def start(self, key: str, person: str, argv: list[str], env: dict[str, str], **more: Any) -> None:
        self.started.append({"key": key, "person": person, "argv": argv, "env": env, **more})
        if self.stays:
            self.living.add(key)

    async def poll(self, key: str) -> launcher.Alive | launcher.Gone:
        return launcher.Alive(1) if key in self.living else launcher.Gone(None)

    async def end(self, key: str, *, grace: float) -> None:
        self.living.discard(key)

    async def keys(self, prefix: str) -> list[str]:
        return [key for key in self.living if key.startswith(prefix)]

    async def log(self, key: str, tail_bytes: int) -> str:
        if key not in self.logs:
            raise NotFound("No such log")
        return self.logs[key][-tail_bytes:]

    async def account(self, person: str) -> Account:
        return Account(f"sp-{person}", 30000, 30000, Path("/homes") / person, Path("/run/specola/x"))

    @property
    def wish(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.started[-1]["files"]["wish.json"])
        return found


def runner(tmp_path: Path, here: Launcher, kind: str = "condor", **section: Any) -> SiteRunner:
    more = {"model": MODEL, "facility": "f4c1", "notes": tmp_path / "notes"}
    if kind == "condor":
        pool = CondorPool(actuator="condor", model="A100-80GB", **section)
        return CondorRunner(here, "My Pool", pool, **more)  # type: ignore[arg-type]
    return SlurmRunner(here, "My Pool", SlurmPool(actuator="slurm", model="A100-80GB", **section), **more)  # type: ignore[arg-type]


def work(shape: str = "1g", **settings: Any) -> Work:
    return Work("lease", "anna", "a100", shape, 3600, {"secret": "s", **settings}, {"CUDA_VISIBLE_DEVICES": "MIG-1"})


def said(**seen: str) -> str:
    return json.dumps(seen) + "\n"


KEY = "gpu-site.my-pool-"


def key(here: Launcher) -> str:
    return str(here.started[-1]["key"])


async def test_the_wish_has_all_but_the_secret_and_the_environment_no_gpu(tmp_path: Path) -> None:
    here = Launcher()
    await runner(tmp_path, here, config="/etc/condor/{account}").start(work())
    (sent,) = here.started
    assert sent["key"].startswith(KEY)
    assert sent["env"]["CONDOR_CONFIG"] == "/etc/condor/sp-anna"
    assert json.loads(sent["files"]["kernel.json"]) == {"secret": "s"}
    assert "secret" not in sent["files"]["wish.json"] + sent["files"]["run.sh"] + str(sent["argv"]) + str(sent["env"])
    assert "MIG-1" not in str(sent)
    assert here.wish["mark"] == "f4c1.lease"


async def test_without_a_configuration_the_accounts_own_is_used(tmp_path: Path) -> None:
    here = Launcher()
    await runner(tmp_path, here).start(work())
    assert "CONDOR_CONFIG" not in here.started[0]["env"]


async def test_lines_of_the_facility_go_into_the_submit_description(tmp_path: Path) -> None:
    here = Launcher()
    await runner(tmp_path, here, submit={"request_memory": "1GB", "+Project": '"ml"'}, cores=2).start(work())
    submit = here.wish["submit"]
    assert submit["request_memory"] == "1GB"
    assert submit["+Project"] == '"ml"'
    assert submit["request_cpus"] == "2"
    assert "EnteredCurrentStatus > 4500" in submit["periodic_remove"]


def test_what_a_gpus_ad_must_say() -> None:
    assert wanted(MODEL, "1g").endswith('MigProfile == "1g.10gb")')
    assert "GlobalMemoryMb >= " in wanted(MODEL, "1g")
    assert "^MIG-" in wanted(MODEL, "whole")


async def test_options_of_sbatch(tmp_path: Path) -> None:
    here = Launcher()
    made = runner(tmp_path, here, "slurm", partition="gpu", options=["--account=ml"], gres="gpu:a100_{profile}")
    await made.start(work("3g"))
    options = here.wish["options"]
    assert {"--gres=gpu:a100_3g.40gb:1", "--partition=gpu", "--account=ml", "--time=75", "--mem=8192M"} <= set(options)
    assert "--output=/dev/null" in options
    assert (
        "--gres=gpu:a100_a100-80gb:1"
        in runner(tmp_path, here, "slurm", gres="gpu:a100_{profile}").job(  # type: ignore[attr-defined]
            work("whole"), await here.account("anna")
        )["options"]
    )


async def test_where_the_home_is_shared_what_the_worker_writes_comes_back(tmp_path: Path) -> None:
    here = Launcher()
    made = runner(tmp_path, here, "slurm")
    await made.start(work(home="shared"))
    assert here.wish["errors"] == "/homes/anna/.local/share/specola/gpu-lease.log"
    assert "export HOME" not in here.started[-1]["files"]["run.sh"]
    await runner(tmp_path, here).start(work(home="shared"))
    assert "export HOME" not in here.started[-1]["files"]["run.sh"]


async def test_the_log_says_how_the_job_is(tmp_path: Path) -> None:
    here = Launcher()
    made = runner(tmp_path, here)
    await made.start(work())
    assert await made.poll("lease") == Waiting("The job is being sent to the site.")
    here.logs[key(here)] = said(state="waiting", reason="It waits.")
    assert await made.poll("lease") == Waiting("It waits.")
    here.logs[key(here)] += said(state="running", host="n7", device="MIG-7") + "a warning of a library\n[1]\n"
    assert await made.poll("lease") == Running("n7", "MIG-7")
    here.living.clear()
    here.logs[key(here)] += said(state="gone", reason="It failed.")
    assert await made.poll("lease") == Gone("It failed.")


async def test_the_last_word_of_an_earlier_program_is_none_of_this_one(tmp_path: Path) -> None:
    here = Launcher()
    made = runner(tmp_path, here)
    await made.start(work())
    here.logs[key(here)] = said(state="gone", reason="It failed.")
    assert await made.poll("lease") == Waiting("The job is being sent to the site.")


async def test_a_dead_program_is_replaced_but_not_for_ever(tmp_path: Path) -> None:
    here = Launcher(stays=False)
    made = runner(tmp_path, here)
    await made.start(work())
    for _ in range(RESTARTS):
        assert isinstance(await made.poll("lease"), Waiting)
        assert here.wish["mode"] == "watch"
        assert "kernel.json" not in here.started[-1]["files"]
    assert await made.poll("lease") == Gone(
        "What watches the job at the site ends again and again. Please tell the operators."
    )
    here.logs[key(here)] = said(state="running", host="n7")
    await made.start(work())
    assert await made.poll("lease") == Running("n7")


async def test_a_lease_that_was_never_started_is_gone(tmp_path: Path) -> None:
    made = runner(tmp_path, Launcher())
    assert await made.poll("lease") == Gone()
    await made.stop("lease")
    assert await made.leases() == frozenset()


async def test_leases_outlive_the_service_and_the_machine(tmp_path: Path) -> None:
    here = Launcher()
    await runner(tmp_path, here).start(work())
    rebooted = Launcher()
    again = runner(tmp_path, rebooted)
    assert await again.leases() == {"lease"}
    await again.poll("lease")
    assert rebooted.wish["mode"] == "watch"
    assert rebooted.started[-1]["person"] == "anna"


async def test_what_its_program_could_not_take_back_another_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sites, "STOP_WITHIN", 0.05)
    here = Launcher()
    made = runner(tmp_path, here)
    await made.start(work())
    here.living.clear()
    with pytest.raises(Unavailable, match="HTCondor does not answer"):
        await made.stop("lease")
    assert here.wish["mode"] == "stop"
    assert not here.living
    assert await made.leases() == {"lease"}
    here.logs[key(here)] = said(state="gone")
    await made.stop("lease")
    assert await made.leases() == frozenset()


async def test_what_its_program_has_taken_back_is_done(tmp_path: Path) -> None:
    here = Launcher()
    made = runner(tmp_path, here)
    await made.start(work())
    here.logs[key(here)] = said(state="gone")
    await made.stop("lease")
    assert len(here.started) == 1
    assert await made.leases() == frozenset()


def test_a_last_word_has_a_form_and_a_length() -> None:
    assert last_word("") is None
    assert last_word('{"state": "king"}\n{"reason": 1}\nnonsense') is None
    found = last_word(said(state="waiting", reason="x" * 5000, more="y"))
    assert found is not None
    assert len(found["reason"]) == 600
    assert set(found) == {"state", "reason", "host", "device"}


@pytest.mark.parametrize(
    ("body", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill $PPID; exec sleep 60", 143)]
)
def test_the_jobs_script_ends_as_the_worker_does_and_gives_back_the_end_of_what_it_wrote(
    tmp_path: Path, body: str, code: int
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nseq 10000 >&2\nseq 10000\necho the end >&2\n{body}\n")
    python.chmod(0o755)
    script = "umask 077\n" + sites.worker(str(python), ".")
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code
    assert done.stdout == ""
    assert len(done.stderr) <= 4096 + len("Terminated\n")
    assert "the end\n" in done.stderr


def test_nothing_that_others_put_where_a_job_starts_is_run(tmp_path: Path) -> None:
    """Slurm's jobs start in /tmp, where every account of the machine may put a module of a well-known name."""
    (tmp_path / "logging.py").write_text("raise SystemExit(77)")
    script = sites.worker(sys.executable, ".")
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "is no order" in done.stderr) == (2, True)


async def test_nothing_of_a_home_is_run_by_what_watches_its_jobs(tmp_path: Path) -> None:
    here = Launcher()
    await runner(tmp_path, here).start(work())
    assert here.started[0]["argv"][1:3] == ["-P", "-m"]
