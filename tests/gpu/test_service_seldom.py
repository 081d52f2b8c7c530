"""What seldom happens to the GPU service: pools that go, cards that lose slices, calls that fail, crossings."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from specola.client.hub import Hub
from specola.core.errors import Conflict, NotFound, Unavailable
from specola.gpu import reconcile
from specola.gpu.adapters.profiles import models
from specola.gpu.adapters.simulated_control import Control, Fault, Phase, Refusals, write_control
from specola.gpu.api import CoursePlan, NewGrant, NewRequest, Redeem, Renew, Report, Saved
from specola.gpu.model import ActuatorError, Instance, Running, SimulatedPool, Work
from specola.gpu.pools import GpuPool
from specola.gpu.records import HALF_LIFE, Usage, weight
from specola.gpu.state import End, Grant, Slot, Want
from specola.gpu.store import Record
from specola.server.gpus import HubServers

from gpu.servicerig import FakeRunner, Rig, kernel


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    await made.pass_by()
    yield made
    await made.close()


def control(rig: Rig, **said: Any) -> None:
    write_control(rig.place / "gpu" / "a100", Control(**said))


async def elsewhere(rig: Rig, **pools: Any) -> Rig:
    """The facility started anew with another facility file."""
    await rig.service.close()
    rig.engine.dispose()
    return Rig(rig.place, pools=pools, clock=rig.clock, runner=rig.runner, servers=rig.servers)


OTHER = {"other": {"actuator": "simulated", "model": "H100-80GB", "cards": 1}}


# pools that go


async def test_leases_of_a_pool_that_is_gone_end_and_their_requests_are_told(rig: Rig) -> None:
    active, offered = await rig.active(), await rig.offered("bob")
    started = await rig.offered("carlo")
    await rig.service.start_kernel("carlo", started.id, kernel(started))
    after = await elsewhere(rig, **OTHER)
    for seconds in (0, 6, 30, 70):
        await after.pass_by(seconds)
    assert {held.state for held in after.store.held_of("anna", 0)} == {"ended"}
    assert (await after.service.lease("anna", active.id)).outcome == "failed"
    assert (await after.service.lease("bob", offered.id)).outcome == "drained"
    assert (await after.service.request("bob", offered.request)).state == "queued"
    with pytest.raises(Conflict):
        await after.service.start_kernel("anna", active.id, kernel(active))
    await after.close()


async def test_a_lease_that_was_never_made_goes_back_when_its_pool_is_gone(rig: Rig) -> None:
    request = await rig.ask()
    control(rig, latency=600)
    await rig.service.step()
    assert (await rig.lease()).state == "making"
    after = await elsewhere(rig, **OTHER)
    await after.pass_by()
    waiting = await after.service.request("anna", request.id)
    assert (waiting.state, "not there any more" in waiting.reason) == ("queued", True)
    await after.close()


# cards


async def test_an_offered_slice_that_vanished_is_made_again(rig: Rig) -> None:
    lease = await rig.offered()
    (rig.place / "gpu" / "a100" / "card-0.json").unlink()
    await rig.pass_by(1)
    again = await rig.lease()
    assert (again.id, again.state) == (lease.id, "offered")
    assert set(await rig.tags()) == {lease.id}


async def test_a_slice_with_the_mark_of_no_lease_is_freed_and_others_are_left(rig: Rig) -> None:
    lease = await rig.offered()
    assert rig.pool.actuator is not None
    await rig.pool.actuator.make(Slot(str(lease.gpu), 0, 4), "3g", "no-such-lease")
    control(rig, cards={0: Fault(foreign=((4, 1),))})
    await rig.pass_by(1)
    assert set(await rig.tags()) == {lease.id}
    parts = (await rig.service.offers("anna", ("physics",))).pools[0].gpus[0].parts
    assert [(part.start, part.size) for part in parts if part.state == "other"] == [(4, 1)]


async def test_a_slice_that_is_still_in_use_is_tried_again(rig: Rig) -> None:
    lease = await rig.offered()
    control(rig, refuse=Refusals(destroy="a process still uses it"))
    await rig.service.release("anna", lease.id, lease.token, by="anna")
    await rig.pass_by(1)
    assert (await rig.lease()).state == "ending"
    request = await rig.ask("bob", shape="7g")
    await rig.pass_by(1)
    assert (await rig.service.request("bob", request.id)).state == "queued"
    control(rig)
    await rig.pass_by(40)
    assert (await rig.lease()).state == "ended"
    assert (await rig.service.request("bob", request.id)).state == "granted"


async def test_a_lease_does_not_end_while_its_cards_do_not_answer(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = await rig.offered()

    async def broken() -> object:
        raise RuntimeError("NVML_ERROR_UNKNOWN")

    monkeypatch.setattr(rig.pool.actuator, "cards", broken)
    await rig.service.release("anna", lease.id, lease.token, by="anna")
    await rig.pass_by(10)
    assert (await rig.lease()).state == "ending"
    monkeypatch.undo()
    await rig.pass_by(40)
    assert (await rig.lease()).state == "ended"


async def test_a_card_that_is_ill_gets_nothing_new(rig: Rig) -> None:
    control(rig, cards={0: Fault(healthy=False)})
    request = await rig.ask()
    await rig.pass_by(1)
    assert (await rig.service.request("anna", request.id)).state == "queued"
    gpu = (await rig.service.offers("anna", ("physics",))).pools[0].gpus[0]
    assert (gpu.healthy, gpu.reason) == (False, "it fell off the bus")


async def test_offers_are_never_older_than_five_seconds(rig: Rig) -> None:
    rig.clock.now += 6
    pool = (await rig.service.offers("anna", ("physics",))).pools[0]
    assert (pool.available, pool.reason) == (False, "Its GPUs have not answered for some seconds.")


async def test_a_gpu_that_is_not_there_any_more_keeps_its_leases_slots(rig: Rig) -> None:
    lease = await rig.active()
    rig.pool.cards = ()
    state = rig.pool.state(rig.store.live(), (), rig.clock.now)
    (gpu,) = state.gpus
    assert gpu.id == lease.gpu
    assert sum(size for _, size in gpu.foreign) == 7


# starts


async def test_a_start_that_was_cut_off_is_asked_again_or_given_up(rig: Rig) -> None:
    lease = await rig.offered()
    rig.store.move(lease.id, ("offered",), state="starting", kernel="cafe", starting=rig.clock.now)
    after = await rig.again()
    await after.pass_by(2)
    assert (await after.lease()).state == "starting"
    await after.pass_by(31)
    back = await after.lease()
    assert (back.state, back.reason) == ("offered", "The start was interrupted.")
    await after.close()


async def test_a_runner_that_does_not_answer_changes_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = await rig.active()

    async def away(_lease: str) -> object:
        raise RuntimeError("the schedd is away")

    monkeypatch.setattr(rig.runner, "poll", away)
    await rig.pass_by(100)
    assert (await rig.lease()).state == "active"
    with pytest.raises(Unavailable, match="this machine"):
        await rig.service.start_kernel("anna", lease.id, kernel(lease))

    async def launcher_away(_lease: str) -> object:
        raise Unavailable("The launcher does not answer")

    monkeypatch.setattr(rig.runner, "poll", launcher_away)
    with pytest.raises(Unavailable, match="launcher"):
        await rig.service.start_kernel("anna", lease.id, kernel(lease))


async def test_a_lease_that_is_given_back_while_its_kernel_starts_runs_nothing(rig: Rig) -> None:
    lease = await rig.offered()
    await asyncio.gather(
        rig.service.start_kernel("anna", lease.id, kernel(lease)),
        rig.service.release("anna", lease.id, lease.token, by="anna"),
    )
    await rig.pass_by(1)
    assert (await rig.lease()).state == "ended"
    assert (rig.runner.work, await rig.tags()) == ({}, {})


async def test_a_start_whose_slice_has_gone_is_refused(rig: Rig) -> None:
    lease = await rig.offered()
    (rig.place / "gpu" / "a100" / "card-0.json").unlink()
    rig.pool.cards = ()
    with pytest.raises(Unavailable, match="slice does not answer"):
        await rig.service.start_kernel("anna", lease.id, kernel(lease))
    assert (await rig.lease()).state == "offered"


async def test_work_without_a_lease_is_ended(rig: Rig) -> None:
    lease = await rig.active()
    for stray in ("of-no-lease", (await rig.offered("bob")).id):
        await rig.runner.start(Work(stray, "bob", "a100", "1g", 60, {}))
    await rig.pass_by(11)
    assert set(rig.runner.work) == {lease.id}


async def test_work_that_does_not_end_keeps_no_other(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for stray in ("a", "b", "c"):
        await rig.runner.start(Work(stray, "bob", "a100", "1g", 60, {}))
    stop = rig.runner.stop

    async def stuck(lease: str) -> None:
        if lease != "b":
            await stop(lease)
            return
        raise Unavailable("HTCondor does not answer")

    monkeypatch.setattr(rig.runner, "stop", stuck)
    await rig.pass_by(11)
    assert set(rig.runner.work) == {"b"}
    monkeypatch.undo()
    await rig.pass_by(31)
    assert rig.runner.work == {}


async def test_a_slice_of_no_lease_that_is_in_use_keeps_no_other(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    actuator = rig.pool.actuator
    assert actuator is not None
    gpu, destroy = rig.pool.cards[0].id, actuator.destroy
    for number in range(3):
        await actuator.make(Slot(gpu, number, 1), "1g", f"of-no-lease-{number}")

    async def used(instance: Instance) -> None:
        if instance.tag == "of-no-lease-1":
            raise ActuatorError("a process still uses it")
        await destroy(instance)

    monkeypatch.setattr(actuator, "destroy", used)
    await rig.pass_by(5)
    assert set(await rig.tags()) == {"of-no-lease-1"}
    monkeypatch.undo()
    await rig.pass_by(31)
    assert await rig.tags() == {}


async def test_a_clock_that_is_set_back_stops_nothing(rig: Rig) -> None:
    lease = await rig.active()
    await rig.pass_by(6)
    control(rig, refuse=Refusals(destroy="it is still in use"))
    gone = await rig.active("bob")
    await rig.service.release("bob", gone.id, gone.token, by="bob")
    await rig.service.saved("bob", gone.id, Saved(token=gone.token))
    await rig.pass_by(1)
    rig.clock.now -= 7200
    control(rig)
    rig.runner.work.pop(lease.id)
    await rig.pass_by(0)
    assert (await rig.lease("bob")).state == "ended"
    await rig.pass_by(6)
    await rig.pass_by(25)
    assert (await rig.lease()).state == "ended"
    assert await rig.tags() == {}


async def test_what_was_saved_is_kept_in_short_and_heard_once(rig: Rig) -> None:
    lease = await rig.active()
    left = [{"name": f"{number:0256}", "why": "x"} for number in range(1000)]
    many = Saved.model_validate({"token": lease.token, "names": ["n" * 900] * 1000, "failed": left})
    await rig.service.saved("anna", lease.id, many)
    heard = len(rig.heard("anna", "gpu.lease"))
    for _ in range(3):
        await rig.service.saved("anna", lease.id, many)
    assert len(rig.heard("anna", "gpu.lease")) == heard
    assert len(json.dumps(rig.heard("anna", "gpu.lease")[-1])) < 120_000
    await rig.service.release("anna", lease.id, lease.token, by="anna")
    ended = await rig.service.saved("anna", lease.id, Saved(token=lease.token, names=("x",)))
    assert ended.saved is not None
    assert (ended.state, ended.saved.names) == ("ending", ("x",))


async def test_a_worker_on_another_machine_says_its_device(rig: Rig) -> None:
    lease = await rig.active()
    rig.runner.says[lease.id] = Running("here", "MIG-other")
    await rig.pass_by(6)
    assert (await rig.lease()).device == lease.device


# states that do not fit


async def test_what_does_not_fit_the_state_of_a_lease_is_refused(rig: Rig) -> None:
    lease = await rig.active()
    await rig.service.release("anna", lease.id, lease.token, by="anna")
    with pytest.raises(Conflict, match="at its end"):
        await rig.service.start_kernel("anna", lease.id, kernel(lease))
    await rig.service.saved("anna", lease.id, Saved(token=lease.token, names=("x",)))
    later = await rig.service.saved("anna", lease.id, Saved(token=lease.token, names=("x", "y")))
    assert later.saved is not None
    assert (later.state, later.saved.names) == ("ending", ("x",))
    offered = await rig.offered()
    with pytest.raises(Conflict, match="Nothing starts"):
        await rig.service.confirm("anna", offered.id, offered.token)
    report = Report(token=offered.token, kernel="busy", since=0)
    assert (await rig.service.report("anna", offered.id, report)).signal == "none"
    await rig.pass_by(1)
    server = await rig.offered(server=True)
    await rig.service.release("anna", server.id, server.token, by="anna")
    with pytest.raises(Conflict, match="not waiting"):
        await rig.service.grant("anna", server.id, NewGrant(token=server.token))


async def test_a_grant_of_before_is_worthless_after_a_new_one(rig: Rig) -> None:
    lease = await rig.offered(server=True)
    first = await rig.service.grant("anna", lease.id, NewGrant(token=lease.token))
    second = await rig.service.grant("anna", lease.id, NewGrant(token=lease.token))
    with pytest.raises(NotFound):
        await rig.service.redeem(Redeem(grant=first.grant, person="anna", server=""))
    assert (await rig.service.redeem(Redeem(grant=second.grant, person="anna", server=""))).lease == lease.id


async def test_a_lease_whose_gpu_is_drained_cannot_be_renewed(rig: Rig) -> None:
    lease = await rig.active()
    rig.store.move(lease.id, ("active",), state="expiring", cause="drained", ends_at=rig.clock.now + 900)
    with pytest.raises(Conflict, match="ends in any case"):
        await rig.service.renew("anna", lease.id, Renew(token=lease.token, minutes=10))


async def test_at_the_longest_there_is_no_more(rig: Rig) -> None:
    lease = await rig.active("bob", ("ml",), minutes=120)
    rig.store.move(lease.id, ("active",), state="expiring", cause="term", ends_at=rig.clock.now + 60)
    with pytest.raises(Exception, match="at most 120 minutes"):
        await rig.service.renew("bob", lease.id, Renew(token=lease.token, minutes=10))


# the plan


async def test_a_lease_that_computes_while_nobody_waits_goes_on_by_itself(rig: Rig) -> None:
    control(rig, script=(Phase(engine=0.9, memory_gib=1),))
    lease = await rig.active(minutes=30)
    for _ in range(20):
        await rig.pass_by(60)
    renewed = await rig.lease()
    assert renewed.state == "active"
    assert renewed.expires > lease.expires
    for _ in range(20):
        await rig.pass_by(60)
    assert (await rig.lease()).state == "active"
    await rig.ask("bob", shape="7g")
    for _ in range(60):
        await rig.pass_by(60)
    assert (await rig.lease()).outcome == "expired"


async def test_a_notice_is_taken_back_when_nobody_waits_any_more(rig: Rig) -> None:
    lease = await rig.active("bob", shape="7g", minutes=300)
    await rig.service.report("bob", lease.id, Report(token=lease.token, kernel="idle", since=rig.clock.now))
    for _ in range(12):
        await rig.pass_by(100)
    request = await rig.ask("anna", shape="7g")
    await rig.pass_by(1)
    assert (await rig.lease("bob")).state == "expiring"
    await rig.service.cancel("anna", request.id)
    await rig.pass_by(1)
    spared = await rig.lease("bob")
    assert (spared.state, spared.cause, spared.ends_at) == ("active", None, None)


async def test_an_offer_on_a_gpu_that_is_taken_out_waits_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = await rig.offered()
    monkeypatch.setattr(reconcile, "plan", lambda *_: (End(lease.id, "drained"),))
    await rig.pass_by(0, steps=2)
    ended = await rig.lease()
    assert (ended.outcome, (await rig.service.request("anna", lease.request)).state) == ("drained", "queued")


async def test_a_fault_in_one_action_does_not_keep_the_others_waiting(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    held = await rig.offered(shape="1g")
    request, twice = await rig.ask("bob"), Slot(str(held.gpu), held.start or 0, 1)
    monkeypatch.setattr(reconcile, "plan", lambda *_: (
        Grant("no-such-wish", Want("a100", "1g"), None),
        Grant(request.id, Want("a100", "1g"), twice),
        End(held.id, "released"),
    ))  # fmt: skip
    await rig.service.step()
    assert "are held already" in caplog.text
    assert (await rig.service.request("bob", request.id)).state == "queued"
    assert (await rig.lease()).state == "ending"


async def test_saving_is_skipped_where_nothing_runs(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = await rig.offered(server=True)
    grant = await rig.service.grant("anna", lease.id, NewGrant(token=lease.token))
    answer = await rig.service.redeem(Redeem(grant=grant.grant, person="anna", server=""))
    await rig.service.confirm(None, lease.id, answer.token)
    monkeypatch.setattr(reconcile, "plan", lambda *_: (End(lease.id, "term"),))
    await rig.service.step()
    assert (await rig.lease()).state == "ending"
    await rig.service.settle()
    assert (await rig.lease()).outcome == "expired"


async def test_old_rows_go_and_records_stay(rig: Rig) -> None:
    lease = await rig.offered()
    await rig.service.release("anna", lease.id, lease.token, by="anna")
    await rig.pass_by(1)
    await rig.pass_by(8 * 86400)
    assert rig.store.held(lease.id) is None
    assert rig.store.asked(lease.request) is None
    assert len(rig.store.records(0)) == 1


# shares


def ended(at: float, seconds: float, *, slots: float = 4, early: bool = False) -> Record:
    return Record(
        lease="l", person="anna", group="ml", course=None, pool="a100", model="A100-40GB", shape="3g", slots=slots,
        fraction=0.5, simulated=True, server=False, asked=at, granted=at - seconds, active=at - seconds, ended=at,
        allocated_seconds=seconds, used_seconds=0, outcome="released" if early else "expired", early=early,
    )  # fmt: skip


def test_usage_halves_in_a_week_and_is_the_same_counted_anew() -> None:
    record = ended(1000.0, 500.0)
    usage = Usage([record], 1000.0)
    now = usage.of_groups((), 1000.0)["ml"]
    assert now == pytest.approx(2000, rel=1e-3)
    later = usage.of_groups((), 1000.0 + HALF_LIFE)["ml"]
    assert later == pytest.approx(now / 2)
    assert Usage([record], 1000.0 + HALF_LIFE).of_groups((), 1000.0 + HALF_LIFE)["ml"] == pytest.approx(later)
    assert weight(0, 0, 10) == 0


def test_the_rate_of_early_releases_is_measured_over_a_week() -> None:
    usage = Usage([ended(1000.0, 500.0, early=True), ended(1000.0, 1500.0)], 1000.0)
    assert usage.early_release(1000.0) == pytest.approx(1 / 2000)
    assert usage.early_release(1000.0 + 8 * 86400) == 0


def test_a_card_without_slices_is_a_whole_gpu_where_nothing_is_made() -> None:
    section = SimulatedPool(actuator="simulated", model="A100-40GB")
    pool = GpuPool("p", section, models()["A100-40GB"], closed="not here")
    assert (pool.shapes(), pool.granularity, pool.places) == (frozenset(), "none", False)


async def test_a_course_at_a_site_is_not_promised(tmp_path: Path) -> None:
    pools = {"far": {"actuator": "condor", "model": "A100-40GB"}}
    rig = Rig(tmp_path, pools=pools, runner=FakeRunner())
    await rig.pass_by()
    need = await rig.service.plan_course(CoursePlan(pool="far", shape="1g", seats=7))
    assert (need.enough, "site decides" in need.conflicts[0]) == (False, True)
    advice = await rig.service.advice("anna", ("physics",), 20, 60, None)
    assert advice.choice is not None
    await rig.close()


async def test_advice_says_how_long_a_taken_size_takes(rig: Rig) -> None:
    await rig.active("bob", shape="7g", minutes=60)
    await rig.pass_by()
    advice = await rig.service.advice("anna", ("physics",), 20, 60, None)
    assert advice.choice is not None
    assert advice.choice.free == 0
    assert "It is taken" in advice.text


async def test_everybodys_servers_are_asked_of_the_hub() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "DELETE":
            return httpx.Response(204)
        servers = {"": {"name": "", "ready": True}, "gpu": {"name": "gpu", "ready": True, "pending": "stop"}}
        return httpx.Response(200, content=json.dumps([{"name": "anna", "servers": servers}]))

    servers = HubServers(Hub("http://hub/hub/api", "token-of-the-service", transport=httpx.MockTransport(answer)))
    assert await servers.present() == {("anna", ""): True, ("anna", "gpu"): False}
    await servers.stop("anna", "gpu")


async def test_a_request_of_a_shape_that_has_gone_still_shows(rig: Rig) -> None:
    request = await rig.service.ask("anna", ("physics",), NewRequest(shape="7g", alternatives=("3g",)), None)
    after = await elsewhere(rig, **OTHER)
    await after.pass_by()
    assert (await after.service.request("anna", request.id)).wants == ()
    await after.close()
