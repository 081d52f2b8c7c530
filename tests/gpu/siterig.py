"""A real HTCondor or Slurm, and the runner that sends kernel workers to it through a real launcher."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from launching import Place
from pools.htcondor import HTCondorPool
from pools.processes import CommandFailed
from pools.slurm import SlurmPool as RealSlurm
from running import wait_for
from specola.core.accounts import Account
from specola.gpu.adapters.condor import CondorRunner
from specola.gpu.adapters.profiles import models
from specola.gpu.adapters.sites import SiteRunner
from specola.gpu.adapters.slurm import SlurmRunner
from specola.gpu.model import CondorPool, Gone, Running, SlurmPool, Work

MODEL = models()["A100-80GB"]
FACILITY = "f4c1"
STANDIN = """#!/bin/sh
# stands in for the interpreter: writes down how it was started, and stays, instead of a kernel's work
out={place}/$SPECOLA_GPU_LEASE
{{ id -un; stat -c '%a %U' "$4"; cat "$4"; echo; env; }} >"$out.new"
mv "$out.new" "$out"
case "$(cat "$4")" in
*fail*) echo "no kernel called that" >&2; exit 3 ;;
esac
exec sleep 1000
"""


@dataclasses.dataclass
class Site:
    """A site with the runner that sends to it, and what its operators see."""

    runner: SiteRunner
    seen: Path
    queue: Callable[[], list[str]]
    """every job, whoever has sent it, by the mark of its lease"""
    public: Callable[[], str]
    """all that anybody may learn of all jobs"""
    profile: Callable[[str], str]
    """what the site says that a lease's job has"""
    let_in: Callable[[str], object]
    """the site's operators give an account what it needs to send jobs"""
    remove: Callable[[str], object]
    """an operator removes a lease's job"""
    hold: Callable[[str], object]
    """an operator puts it on hold"""

    def again(self, **changed: Any) -> SiteRunner:
        """The runner of a service that was started anew."""
        old = self.runner
        section = old._section.model_copy(update=changed)
        notes = old._notes.parent
        return type(old)(old._launcher, old.kind, section, model=old.model, facility=FACILITY, notes=notes)

    def report(self, lease: str) -> list[str]:
        """What the stand-in of a lease's worker wrote down."""
        path = self.seen / lease
        return path.read_text().splitlines() if path.exists() else []

    def variable(self, lease: str, name: str) -> str:
        return next((line.partition("=")[2] for line in self.report(lease) if line.startswith(f"{name}=")), "")

    async def account(self, person: str = "anna") -> Account:
        return await self.runner._launcher.account(person)

    async def program(self, lease: str) -> psutil.Process:
        """The program that watches a lease's job."""
        state = await self.runner._launcher.poll(self.runner._key(lease))
        return psutil.Process(state.pid)

    async def send(self, *works: Work) -> None:
        for one in works:
            self.let_in((await self.account(one.person)).name)
            await self.runner.start(one)

    async def until(self, lease: str, right: Callable[[Any], object], seconds: float = 60) -> Any:
        """How a lease's job is, once that is right."""
        state = None
        try:
            async with asyncio.timeout(seconds):
                while not right(state):
                    await asyncio.sleep(0.1)
                    state = await self.runner.poll(lease)
        except TimeoutError:
            raise AssertionError(f"{lease} stays {state}") from None
        return state

    async def reported(self, lease: str) -> list[str]:
        await asyncio.to_thread(wait_for, lambda: self.report(lease), 60, f"the worker of {lease}")
        return self.report(lease)

    async def running(self, lease: str) -> Running:
        """Where it runs, once HTCondor also says on which slice."""
        complete = self.runner.site == "Slurm"
        return await self.until(lease, lambda s: isinstance(s, Running) and (complete or s.device))

    async def stopped(self) -> None:
        await asyncio.gather(*(self.runner.stop(lease) for lease in await self.runner.leases()))


def gone(state: object) -> bool:
    return isinstance(state, Gone)


def mark(lease: str) -> str:
    return f"{FACILITY}.{lease}"


def standin(top: Path) -> tuple[Path, Path]:
    """Where workers report, and the interpreter that does so."""
    seen, python = top / "seen", top / "python"
    seen.mkdir(exist_ok=True)
    seen.chmod(0o1777)
    for old in seen.iterdir():
        old.unlink()
    python.write_text(STANDIN.format(place=seen))
    python.chmod(0o755)
    return seen, python


def condor_site(pool: HTCondorPool, here: Place) -> Site:
    seen, python = standin(pool.top)
    section = CondorPool(
        actuator="condor",
        model="A100-80GB",
        python=str(python),
        memory_gib=0.1,
        config=str(pool.top / "clients" / "{account}" / "condor_config"),
    )
    notes = here.top / "notes-condor"
    runner = CondorRunner(here.client(), "condor", section, model=MODEL, facility=FACILITY, notes=notes)

    def public() -> str:
        ads = pool.tool("condor_q", "-allusers", "-long", account="www-data")
        return ads + pool.tool("condor_status", "-long", account="www-data")

    def profile(lease: str) -> str:
        (device,) = [row[1] for row in pool.jobs("SpecolaLease", "AssignedGPUs") if row[0] == mark(lease)]
        return next(one.profile for one in pool.gpus if one.uuid == device)

    def queue() -> list[str]:
        return [job for (job,) in pool.jobs("SpecolaLease")]

    def remove(lease: str) -> None:
        pool.tool("condor_rm", "-constraint", f'SpecolaLease == "{mark(lease)}"')

    def hold(lease: str) -> None:
        pool.tool("condor_hold", "-constraint", f'SpecolaLease == "{mark(lease)}"')

    return Site(runner, seen, queue, public, profile, pool.config_for, remove, hold)


def slurm_site(pool: RealSlurm, here: Place) -> Site:
    seen, python = standin(pool.top)
    section = SlurmPool(
        actuator="slurm",
        model="A100-80GB",
        python=str(python),
        memory_gib=0.1,
        config=str(pool.config),
        programs=str(pool.programs),
    )
    notes = here.top / "notes-slurm"
    runner = SlurmRunner(here.client(), "slurm", section, model=MODEL, facility=FACILITY, notes=notes)

    def public() -> str:
        text = pool.tool("scontrol", "show", "job", "--details", account="www-data")
        for number in pool.jobs("%A"):
            with contextlib.suppress(CommandFailed):
                text += pool.tool("scontrol", "write", "batch_script", number, "-", account="www-data")
        return text + pool.tool("squeue", "--format", "%all", account="www-data")

    def number(lease: str) -> str:
        return pool.tool("squeue", "--noheader", f"--name={mark(lease)}", "--format=%A").strip()

    def profile(lease: str) -> str:
        said = pool.tool("scontrol", "show", "job", "--details", number(lease))
        (granted,) = re.findall(r" GRES=gpu:(\S+):1\(IDX:\d\)", said)
        return str(granted)

    def remove(lease: str) -> None:
        pool.tool("scancel", f"--name={mark(lease)}")

    def hold(lease: str) -> None:
        pool.tool("scontrol", "hold", number(lease))

    return Site(runner, seen, lambda: pool.jobs("%j"), public, profile, str, remove, hold)
