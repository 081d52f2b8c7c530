"""Kernel workers at a real HTCondor and a real Slurm, sent by the real launcher under people's accounts.

The slices are simulated: an inventory says that they are there. The same tests run on both.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from launching import Place, launcher
from pools.htcondor import HTCondorPool
from pools.processes import CommandFailed
from pools.slurm import SlurmPool as RealSlurm
from running import wait_for
from specola.core.errors import Unavailable
from specola.gpu.adapters import sites
from specola.gpu.model import Gone, Waiting, Work

from gpu.siterig import Site, condor_site, gone, mark, slurm_site

pytestmark = pytest.mark.needs_root
SECRET = "s3cret-which-nobody-else-may-see"
TAKEN = Waiting("All GPU slices of this size at the site are taken. It starts when one becomes free.")


@pytest.fixture(scope="module")
def here() -> Iterator[Place]:
    with launcher() as place:
        yield place


@pytest.fixture(params=["htcondor", "slurm"])
def site(request: pytest.FixtureRequest, here: Place) -> Iterator[Site]:
    pool = request.getfixturevalue(request.param)
    made = condor_site(pool, here) if request.param == "htcondor" else slurm_site(pool, here)
    yield made
    asyncio.run(made.stopped())
    wait_for(lambda: not made.queue(), 20, "an empty queue")


def work(lease: str, shape: str = "1g", person: str = "anna", **settings: Any) -> Work:
    known = {"secret": SECRET, "relay_url": "ws://hub/user/anna/relay", "home": "none", **settings}
    environment = {"CUDA_VISIBLE_DEVICES": "MIG-of-ours", "MORE": "it's here"}
    return Work(lease, person, "a100", shape, 3600, known, environment)


async def test_the_worker_runs_as_the_person_with_its_settings_in_a_closed_file(site: Site) -> None:
    await site.send(work("l-settings"))
    await site.running("l-settings")
    who, file, settings, *_ = await site.reported("l-settings")
    account = await site.account()
    assert who == account.name
    assert file == f"600 {account.name}"
    assert json.loads(settings)["secret"] == SECRET
    assert site.variable("l-settings", "MORE") == "it's here"
    assert site.variable("l-settings", "CUDA_VISIBLE_DEVICES") != "MIG-of-ours"
    assert await site.runner.leases() == {"l-settings"}


async def test_the_slice_that_was_asked_for_is_the_one_that_is_granted(site: Site) -> None:
    await site.send(work("l-small", "1g"), work("l-large", "3g"))
    large = await site.running("l-large")
    small = await site.running("l-small")
    assert await asyncio.to_thread(site.profile, "l-large") == "3g.40gb"
    assert await asyncio.to_thread(site.profile, "l-small") == "1g.10gb"
    assert large.host
    assert small.device != large.device or not small.device


async def test_a_slice_more_than_there_are_waits_with_a_sentence(site: Site) -> None:
    names = [f"l-many-{number}" for number in range(4)]
    await site.send(*(work(name) for name in names))
    states = [await site.running(name) for name in names]
    if site.runner.site == "HTCondor":
        assert len({state.device for state in states}) == 4
    await site.send(work("l-many-4"))
    await site.until("l-many-4", lambda s: s == TAKEN)
    await site.runner.stop(names[0])
    await site.running("l-many-4")


async def test_stopping_takes_the_job_back(site: Site) -> None:
    await site.send(work("l-stop"))
    await site.running("l-stop")
    await site.runner.stop("l-stop")
    assert not site.queue()
    assert await site.runner.leases() == frozenset()
    assert await site.runner.poll("l-stop") == Gone()
    await site.runner.stop("l-stop")


async def test_stopping_one_that_waits_takes_it_back_too(site: Site) -> None:
    await site.send(work("l-first", "3g"))
    await site.running("l-first")
    await site.send(work("l-second", "3g"))
    await site.until("l-second", lambda s: s == TAKEN)
    await site.runner.stop("l-second")
    assert site.queue() == [mark("l-first")]


async def test_asked_twice_it_is_one_job(site: Site) -> None:
    await site.send(work("l-twice"))
    await site.runner.start(work("l-twice"))
    await site.running("l-twice")
    await site.again().start(work("l-twice"))
    assert site.queue() == [mark("l-twice")]


async def test_a_crash_after_the_job_was_sent_leaves_one_job(site: Site) -> None:
    """Its program is killed as soon as the job is in the queue, before anybody has noted its number.

    The job runs on the launcher's own machine here, and the launcher ends an account's processes with its last
    program: the other lease is that program's company.
    """
    await site.send(work("l-beside"), work("l-crash", "3g"))
    await asyncio.to_thread(wait_for, lambda: mark("l-crash") in site.queue(), 60, "the job")
    (await site.program("l-crash")).kill()
    await site.until("l-crash", lambda s: s is not None and not gone(s))
    await site.again().start(work("l-crash", "3g"))
    found = await site.running("l-crash")
    assert found.host
    assert sorted(site.queue()) == [mark("l-beside"), mark("l-crash")]
    site.runner = site.again()
    assert await site.runner.leases() == {"l-beside", "l-crash"}


async def test_a_program_that_was_killed_finds_its_job_again(site: Site) -> None:
    await site.send(work("l-found"), work("l-beside"))
    before = await site.running("l-found")
    (await site.program("l-found")).send_signal(signal.SIGKILL)
    assert await site.running("l-found") == before
    assert sorted(site.queue()) == [mark("l-beside"), mark("l-found")]


async def test_a_job_whose_program_died_is_taken_back_by_another(site: Site) -> None:
    await site.send(work("l-left"), work("l-beside"))
    await site.running("l-left")
    (await site.program("l-left")).kill()
    await site.again().stop("l-left")
    assert site.queue() == [mark("l-beside")]


async def test_a_job_that_ended_while_its_program_was_away_is_gone(site: Site) -> None:
    await site.send(work("l-away"), work("l-beside"))
    await site.running("l-away")
    program = await site.program("l-away")
    program.kill()
    await asyncio.to_thread(site.remove, "l-away")
    await asyncio.to_thread(wait_for, lambda: site.queue() == [mark("l-beside")], 60, "the removal")
    assert isinstance(await site.until("l-away", gone), Gone)


async def test_nobody_else_sees_the_secret(site: Site) -> None:
    await site.send(work("l-secret"))
    await site.running("l-secret")
    text = await asyncio.to_thread(site.public)
    assert "l-secret" in text
    assert SECRET not in text
    shown = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in shown if SECRET in line]
    account = await site.account()
    for file in account.runtime.rglob(f"*/{'kernel.json'}"):
        assert (file.stat().st_mode & 0o777, file.owner()) == (0o600, account.name)


async def test_a_worker_that_fails_says_so(site: Site) -> None:
    await site.send(work("l-fail", home="shared", kernel_name="fail"))
    ended = await site.until("l-fail", gone)
    assert ended.reason == "The kernel's worker ended with code 3: no kernel called that."


async def test_a_job_that_the_site_ends_says_so(site: Site) -> None:
    await site.send(work("l-ended"))
    await site.running("l-ended")
    await asyncio.to_thread(site.remove, "l-ended")
    ended = await site.until("l-ended", gone)
    assert ended.reason.endswith("Ask again.")


async def test_two_people_have_their_own_jobs(site: Site) -> None:
    await site.send(work("l-anna"), work("l-luca", person="luca"))
    for lease, person in (("l-anna", "anna"), ("l-luca", "luca")):
        await site.running(lease)
        assert (await site.reported(lease))[0] == (await site.account(person)).name


async def test_a_job_that_is_put_on_hold_is_taken_back_with_a_sentence(site: Site) -> None:
    await site.send(work("l-first", "3g"))
    await site.running("l-first")
    await site.send(work("l-held", "3g"))
    await site.until("l-held", lambda s: s == TAKEN)
    await asyncio.to_thread(site.hold, "l-held")
    ended = await site.until("l-held", gone)
    assert "on hold" in ended.reason
    await asyncio.to_thread(wait_for, lambda: site.queue() == [mark("l-first")], 20, "the removal")


async def test_a_python_that_is_not_there_is_the_operators_to_mend(site: Site) -> None:
    site.runner = site.again(python="/nowhere/python")
    await site.send(work("l-python"))
    ended = await site.until("l-python", gone)
    assert ended.reason.startswith("The Python that the facility names is not there at the site.")


async def test_what_the_site_does_not_have_is_refused_or_waits(site: Site) -> None:
    """Slurm refuses it; HTCondor, whose machines come and go, never does."""
    await site.send(work("l-seven", "7g"))
    if site.runner.site == "Slurm":
        ended = await site.until("l-seven", gone)
        assert ended == Gone("The site has no GPU of this size. Choose another size.")
    else:
        await site.until("l-seven", lambda s: s == TAKEN)


async def test_htcondor_somewhere_else_gets_the_files_by_the_wire(here: Place, htcondor: HTCondorPool) -> None:
    site = condor_site(htcondor, here)
    site.runner = site.again(schedd=htcondor.schedd, collector=htcondor.collector)
    await site.send(work("l-spool"))
    await site.running("l-spool")
    _, file, settings, *_ = await site.reported("l-spool")
    assert file.startswith("600 ")
    assert json.loads(settings)["secret"] == SECRET
    await site.stopped()
    wait_for(lambda: not site.queue(), 20, "an empty queue")


async def test_a_schedd_that_nobody_knows_is_waited_for(here: Place, htcondor: HTCondorPool) -> None:
    site = condor_site(htcondor, here)
    site.runner = site.again(schedd="another.specola.test")
    await site.send(work("l-other"))
    state = await site.until("l-other", lambda s: isinstance(s, Waiting) and "schedd" in s.reason)
    assert state.reason == ("HTCondor does not know the schedd another.specola.test, or it is down. It is tried again.")
    await site.stopped()


async def test_a_person_without_a_token_is_told(here: Place, htcondor: HTCondorPool) -> None:
    site = condor_site(htcondor, here)
    stranger = htcondor.client(htcondor.top / "clients" / "stranger")
    site.runner = site.again(config=str(stranger))
    await site.runner.start(work("l-token"))
    state = await site.until("l-token", lambda s: isinstance(s, Waiting) and "credentials" in s.reason)
    assert "does not accept your credentials" in state.reason
    await site.stopped()


async def test_slurm_says_which_part_is_closed(here: Place, slurm: RealSlurm) -> None:
    site = slurm_site(slurm, here)
    site.runner = site.again(partition="closed")
    await site.send(work("l-closed"))
    state = await site.until("l-closed", lambda s: isinstance(s, Waiting) and "service" in s.reason)
    assert state == Waiting("This part of the site is out of service. Wait, or choose another pool.")
    await site.stopped()
    wait_for(lambda: not site.queue(), 20, "an empty queue")


async def test_a_schedd_that_is_killed_loses_no_job(here: Place, htcondor: HTCondorPool) -> None:
    site = condor_site(htcondor, here)
    await site.send(work("l-schedd"))
    before = await site.running("l-schedd")
    killed = htcondor.daemon("condor_schedd")
    killed.kill()

    def back() -> list[str]:
        with contextlib.suppress(CommandFailed, StopIteration):
            return site.queue() if htcondor.daemon("condor_schedd") != killed else []
        return []

    await asyncio.to_thread(wait_for, back, 60, "the schedd")
    assert await site.running("l-schedd") == before
    await site.stopped()
    wait_for(lambda: not site.queue(), 20, "an empty queue")


async def test_a_slurm_that_is_away_takes_the_job_back_later(
    here: Place, slurm: RealSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sites, "END_GRACE", 2.0)
    monkeypatch.setattr(sites, "STOP_WITHIN", 2.0)
    site = slurm_site(slurm, here)
    await site.send(work("l-later"))
    before = await site.running("l-later")
    hidden = slurm.config.with_name("hidden.conf")
    slurm.config.rename(hidden)
    try:
        with pytest.raises(Unavailable, match="Slurm does not answer"):
            await site.runner.stop("l-later")
        assert await site.runner.leases() == {"l-later"}
    finally:
        hidden.rename(slurm.config)
    assert await site.running("l-later") == before
    await site.runner.stop("l-later")
    wait_for(lambda: not site.queue(), 20, "an empty queue")
