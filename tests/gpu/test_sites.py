"""Kernel workers at a real HTCondor and a real Slurm, sent by the real launcher under people's accounts.

The slices are simulated: an inventory says that they are there. The same tests run on both.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from launching import Place, launcher
from pools.processes import CommandFailed
from running import wait_for
from specola.core.accounts import Account
from specola.gpu.adapters.condor import CondorRunner
from specola.gpu.adapters.profiles import models
from specola.gpu.adapters.sites import SiteRunner
from specola.gpu.adapters.slurm import SlurmRunner
from specola.gpu.model import CondorPool, Gone, Running, SlurmPool, Waiting, Work

pytestmark = pytest.mark.needs_root
MODEL = models()["A100-80GB"]
SECRET = "s3cret-which-nobody-else-may-see"
WORKER = """#!/bin/sh
# stands in for the interpreter: writes down how it was started, and stays, instead of a kernel's work
out={place}/$SPECOLA_GPU_LEASE
{{ id -un; stat -c '%a %U' "$3"; cat "$3"; echo; env; }} >"$out.new"
mv "$out.new" "$out"
case "$(cat "$3")" in
*fail*) echo "no kernel called that" >&2; exit 3 ;;
esac
exec sleep 1000
"""


@dataclasses.dataclass
class Site:
    """A site with the runner that sends to it, and what its operators see."""

    place: Place
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
    """what an operator does to a job, by the mark of its lease"""
    facility: str = "f4c1"

    def again(self) -> SiteRunner:
        """The runner of a service that was started anew."""
        old = self.runner
        return type(old)(
            old._launcher, "a100", old._section, model=old.model, facility=self.facility, notes=old._notes.parent
        )

    def report(self, lease: str) -> list[str]:
        """What the worker of a lease wrote down."""
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


@pytest.fixture(scope="module")
def here() -> Iterator[Place]:
    with launcher() as place:
        yield place


@pytest.fixture(params=["htcondor", "slurm"])
def site(request: pytest.FixtureRequest, here: Place) -> Iterator[Site]:
    pool = request.getfixturevalue(request.param)
    seen = pool.top / "seen"
    seen.mkdir(exist_ok=True)
    seen.chmod(0o1777)
    python = pool.top / "python"
    python.write_text(WORKER.format(place=seen))
    python.chmod(0o755)
    made = (condor_site if request.param == "htcondor" else slurm_site)(pool, here, seen, python)
    yield made
    asyncio.run(everything_stopped(made))
    assert not made.queue()
    for path in seen.iterdir():
        path.unlink()


async def everything_stopped(site: Site) -> None:
    for lease in await site.runner.leases():
        await site.runner.stop(lease)


def condor_site(pool: Any, here: Place, seen: Path, python: Path) -> Site:
    section = CondorPool(
        actuator="condor",
        model="A100-80GB",
        python=str(python),
        memory_gib=0.1,
        collector=pool.collector,
        config=str(pool.top / "clients" / "{account}" / "condor_config"),
    )
    runner = CondorRunner(here.client(), "a100", section, model=MODEL, facility="f4c1", notes=here.top / "notes-condor")

    def public() -> str:
        reader = pool.config_for("www-data")
        ads = pool.tool("condor_q", "-allusers", "-long", account="www-data", config=reader)
        return ads + pool.tool("condor_status", "-long", account="www-data", config=reader)

    def queue() -> list[str]:
        return [mark for (mark,) in pool.jobs("SpecolaLease")]

    def remove(mark: str) -> None:
        pool.tool("condor_rm", "-constraint", f'SpecolaLease == "{mark}"')

    def profile(lease: str) -> str:
        (device,) = [row[1] for row in pool.jobs("SpecolaLease", "AssignedGPUs") if row[0] == f"f4c1.{lease}"]
        return next(one.profile for one in pool.gpus if one.uuid == device)

    return Site(here, runner, seen, queue, public, profile, pool.config_for, remove)


def slurm_site(pool: Any, here: Place, seen: Path, python: Path) -> Site:
    section = SlurmPool(
        actuator="slurm",
        model="A100-80GB",
        python=str(python),
        memory_gib=0.1,
        config=str(pool.config),
        programs=str(pool.programs),
    )
    runner = SlurmRunner(here.client(), "a100", section, model=MODEL, facility="f4c1", notes=here.top / "notes-slurm")

    def public() -> str:
        jobs = pool.tool("scontrol", "show", "job", "--details", account="www-data")
        for number in pool.jobs("%A"):
            with pytest.raises(CommandFailed):  # the script is its owner's
                pool.tool("scontrol", "write", "batch_script", number, "-", account="www-data")
        return jobs + pool.tool("squeue", "--format", "%all", account="www-data")

    def queue() -> list[str]:
        return pool.jobs("%j")

    def remove(mark: str) -> None:
        pool.tool("scancel", f"--name={mark}")

    def profile(lease: str) -> str:
        said = pool.tool(
            "scontrol", "show", "job", "--details", pool.tool("squeue", "-h", f"--name=f4c1.{lease}", "-o%A").strip()
        )
        (granted,) = re.findall(r" GRES=gpu:(\S+):1\(IDX:\d\)", said)
        return granted

    return Site(here, runner, seen, queue, public, profile, str, remove)


def work(lease: str, shape: str = "1g", person: str = "anna", **settings: Any) -> Work:
    known = {"secret": SECRET, "relay_url": "ws://hub/user/anna/relay", "home": "none", **settings}
    environment = {"CUDA_VISIBLE_DEVICES": "MIG-of-ours", "MORE": "it's here"}
    return Work(lease, person, "a100", shape, 3600, known, environment)


async def send(site: Site, *works: Work) -> None:
    for one in works:
        site.let_in((await site.account(one.person)).name)
        await site.runner.start(one)


async def until(site: Site, lease: str, right: Callable[[Any], object], seconds: float = 60) -> Any:
    """How a lease's job is, once that is right."""
    state = None
    async with asyncio.timeout(seconds):
        while not right(state):
            await asyncio.sleep(0.1)
            state = await site.runner.poll(lease)
    return state


def running(state: object) -> bool:
    return isinstance(state, Running)


def gone(state: object) -> bool:
    return isinstance(state, Gone)


async def reported(site: Site, lease: str) -> list[str]:
    await asyncio.to_thread(wait_for, lambda: site.report(lease), 60, f"the worker of {lease}")
    return site.report(lease)


async def test_the_worker_runs_as_the_person_with_its_settings_in_a_closed_file(site: Site) -> None:
    await send(site, work("l-settings"))
    await until(site, "l-settings", running)
    who, file, settings, *_ = await reported(site, "l-settings")
    account = await site.account()
    assert who == account.name
    assert file == f"600 {account.name}"
    assert json.loads(settings)["secret"] == SECRET
    assert site.variable("l-settings", "MORE") == "it's here"
    assert site.variable("l-settings", "CUDA_VISIBLE_DEVICES") != "MIG-of-ours"
    assert await site.runner.leases() == {"l-settings"}


async def test_the_slice_that_was_asked_for_is_the_one_that_is_granted(site: Site) -> None:
    await send(site, work("l-small", "1g"), work("l-large", "3g"))
    large = await until(site, "l-large", running)
    small = await until(site, "l-small", running)
    assert await asyncio.to_thread(site.profile, "l-large") == "3g.40gb"
    assert await asyncio.to_thread(site.profile, "l-small") == "1g.10gb"
    assert large.host
    assert small.device != large.device or not small.device


async def test_a_slice_more_than_there_are_waits_with_a_sentence(site: Site) -> None:
    names = [f"l-many-{number}" for number in range(4)]
    await send(site, *(work(name) for name in names))
    states = [await until(site, name, running) for name in names]
    devices = {state.device for state in states} - {""}
    assert len(devices) in {0, 4}
    await send(site, work("l-many-4"))
    waiting = await until(site, "l-many-4", lambda s: isinstance(s, Waiting) and "taken" in s.reason)
    assert waiting.reason == "All GPU slices of this size at the site are taken. It starts when one becomes free."
    await site.runner.stop(names[0])
    await until(site, "l-many-4", running)


async def test_stopping_takes_the_job_back(site: Site) -> None:
    await send(site, work("l-stop"))
    await until(site, "l-stop", running)
    await site.runner.stop("l-stop")
    assert not site.queue()
    assert await site.runner.leases() == frozenset()
    assert await site.runner.poll("l-stop") == Gone()
    await site.runner.stop("l-stop")


async def test_stopping_one_that_waits_takes_it_back_too(site: Site) -> None:
    await send(site, work("l-first", "3g"))
    await until(site, "l-first", running)
    await send(site, work("l-second", "3g"))
    await until(site, "l-second", lambda s: isinstance(s, Waiting) and "taken" in s.reason)
    await site.runner.stop("l-second")
    assert site.queue() == ["f4c1.l-first"]


async def test_asked_twice_it_is_one_job(site: Site) -> None:
    await send(site, work("l-twice"))
    await site.runner.start(work("l-twice"))
    await until(site, "l-twice", running)
    await site.again().start(work("l-twice"))
    assert site.queue() == ["f4c1.l-twice"]


async def test_a_crash_after_the_job_was_sent_leaves_one_job(site: Site) -> None:
    """Its program is killed as soon as the job is in the queue, before anybody has noted its number."""
    await send(site, work("l-crash", "3g"))
    await asyncio.to_thread(wait_for, site.queue, 60, "the job")
    (await site.program("l-crash")).kill()
    await until(site, "l-crash", lambda s: s is not None and not gone(s))
    await site.again().start(work("l-crash", "3g"))
    found = await until(site, "l-crash", running)
    assert found.host
    assert site.queue() == ["f4c1.l-crash"]
    site.runner = site.again()
    assert await site.runner.leases() == {"l-crash"}


async def test_a_program_that_was_killed_finds_its_job_again(site: Site) -> None:
    await send(site, work("l-found"), work("l-beside"))
    before = await until(site, "l-found", running)
    (await site.program("l-found")).send_signal(signal.SIGKILL)
    assert await until(site, "l-found", running) == before
    assert sorted(site.queue()) == ["f4c1.l-beside", "f4c1.l-found"]


async def test_a_job_whose_program_died_is_taken_back_by_another(site: Site) -> None:
    await send(site, work("l-left"), work("l-beside"))
    await until(site, "l-left", running)
    (await site.program("l-left")).kill()
    await site.again().stop("l-left")
    assert site.queue() == ["f4c1.l-beside"]


async def test_a_job_that_ended_while_its_program_was_away_is_gone(site: Site) -> None:
    await send(site, work("l-away"), work("l-beside"))
    await until(site, "l-away", running)
    program = await site.program("l-away")
    program.kill()
    await asyncio.to_thread(site.remove, "f4c1.l-away")
    await asyncio.to_thread(wait_for, lambda: site.queue() == ["f4c1.l-beside"], 60, "the removal")
    assert isinstance(await until(site, "l-away", gone), Gone)


async def test_nobody_else_sees_the_secret(site: Site) -> None:
    await send(site, work("l-secret"))
    await until(site, "l-secret", running)
    text = await asyncio.to_thread(site.public)
    assert "l-secret" in text
    assert SECRET not in text
    shown = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in shown if SECRET in line]
    account = await site.account()
    for file in account.runtime.rglob(f"*/{'kernel.json'}"):
        assert (file.stat().st_mode & 0o777, file.owner()) == (0o600, account.name)


async def test_a_worker_that_fails_says_so(site: Site) -> None:
    await send(site, work("l-fail", home="shared", kernel_name="fail"))
    ended = await until(site, "l-fail", gone)
    assert ended.reason == "The kernel's worker ended with code 3: no kernel called that."


async def test_a_job_that_the_site_ends_says_so(site: Site) -> None:
    await send(site, work("l-ended"))
    await until(site, "l-ended", running)
    await asyncio.to_thread(site.remove, "f4c1.l-ended")
    ended = await until(site, "l-ended", gone)
    assert ended.reason.endswith("Ask again.")


async def test_two_people_have_their_own_jobs(site: Site) -> None:
    await send(site, work("l-anna"), work("l-luca", person="luca"))
    for lease, person in (("l-anna", "anna"), ("l-luca", "luca")):
        await until(site, lease, running)
        assert (await reported(site, lease))[0] == (await site.account(person)).name
