"""Requests, offers and leases as people see them, over simulated cards that hold to the rules of real ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from specola.core.errors import Conflict, NotFound, TooMuch, Unavailable
from specola.gpu.adapters.simulated_control import Control, Phase, Refusals, write_control
from specola.gpu.api import Drain, NewGrant, NewRequest, Redeem, Renew, Report, Saved
from specola.gpu.model import Gone, Running, Waiting

from gpu.servicerig import SECRET, FakeRunner, Rig, kernel


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    await made.pass_by()
    yield made
    await made.close()


def control(rig: Rig, **said: object) -> None:
    write_control(rig.place / "gpu" / "a100", Control(**said))  # type: ignore[arg-type]


# asking and being granted


async def test_what_is_asked_for_is_granted_and_held_for_its_person(rig: Rig) -> None:
    lease = await rig.offered(gib=4)
    assert (lease.shape, lease.profile, lease.simulated) == ("1g", "1g.5gb", True)
    assert lease.device is not None
    assert (lease.expires - lease.granted).total_seconds() == pytest.approx(900, abs=1)
    assert (await rig.service.requests("anna")).items[0].state == "granted"
    assert await rig.tags() == {lease.id: (lease.gpu, lease.start, 1)}
    assert [data["state"] for data in rig.heard("anna", "gpu.lease")] == ["making", "offered"]


async def test_twenty_gigabytes_are_the_slice_that_is_called_so(rig: Rig) -> None:
    assert (await rig.offered(gib=20)).profile == "3g.20gb"


async def test_the_clock_starts_when_the_kernel_is_ready(rig: Rig) -> None:
    lease = await rig.offered(minutes=30)
    await rig.pass_by(600)
    started = await rig.service.start_kernel("anna", lease.id, kernel(lease))
    assert (started.state, started.expires) == ("starting", None)
    rig.clock.now += 40
    active = await rig.service.confirm("anna", lease.id, lease.token)
    assert active.active.timestamp() == pytest.approx(rig.clock.now)
    assert (active.expires - active.active).total_seconds() == 1800
    assert (active.longest - active.active).total_seconds() == 8 * 3600
    assert (await rig.service.confirm("anna", lease.id, lease.token)).active == active.active
    assert (await rig.service.request("anna", lease.request)).state == "served"


async def test_the_worker_gets_the_slice_and_the_way_back(rig: Rig) -> None:
    lease = await rig.offered()
    wish = kernel(lease)
    await rig.service.start_kernel("anna", lease.id, wish)
    work = rig.runner.work[lease.id]
    assert work.environment["CUDA_VISIBLE_DEVICES"] == work.environment["NVIDIA_VISIBLE_DEVICES"] == lease.device
    assert work.environment["SPECOLA_GPU_LEASE"] == lease.id
    assert work.settings["secret"] == SECRET
    assert (work.settings["relay_url"], work.settings["home"]) == (wish.relay_url, "shared")
    assert work.settings["gpu"] == {"model": "A100-40GB", "shape": "1g", "gib": 4.75}
    assert SECRET not in repr(work)


async def test_the_secret_of_a_kernel_is_kept_nowhere(rig: Rig) -> None:
    await rig.active()
    await rig.pass_by(20)
    with rig.engine.connect() as connection:
        dump = "\n".join(connection.connection.driver_connection.iterdump())  # type: ignore[union-attr]
    assert SECRET not in dump


async def test_an_unclaimed_grant_goes_back_with_its_age_and_is_given_up_at_last(rig: Rig) -> None:
    first = await rig.offered()
    request = await rig.service.request("anna", first.request)
    for _ in range(2):
        await rig.pass_by(901)
        again = await rig.lease()
        assert again.id != first.id
        assert again.token > first.token
        assert (await rig.service.request("anna", request.id)).created == request.created
    assert any("Nobody took the slice" in data["reason"] for data in rig.heard("anna", "gpu.request"))
    await rig.pass_by(901)
    ended = await rig.service.request("anna", request.id)
    assert (ended.state, "third time" in ended.reason) == ("failed", True)
    assert await rig.tags() == {}
    assert [record.outcome for record in rig.store.records(0)] == ["lapsed"] * 3


async def test_who_waits_hears_place_and_range(rig: Rig) -> None:
    await rig.active("bob", shape="7g")
    request = await rig.ask("anna", shape="7g")
    await rig.pass_by()
    waiting = await rig.service.request("anna", request.id)
    assert (waiting.state, waiting.position) == ("queued", 1)
    assert waiting.wait is not None
    assert waiting.reason
    heard = rig.heard("anna", "gpu.request")
    assert heard[-1]["position"] == 1
    await rig.pass_by(0.1)
    assert rig.heard("anna", "gpu.request") == heard


async def test_a_request_can_be_taken_back_at_every_stage(rig: Rig) -> None:
    waiting = await rig.ask(shape="7g")
    assert (await rig.service.cancel("anna", waiting.id)).state == "cancelled"
    assert (await rig.service.cancel("anna", waiting.id)).state == "cancelled"
    offered = await rig.offered()
    assert (await rig.service.cancel("anna", offered.request)).state == "cancelled"
    await rig.pass_by()
    assert (await rig.lease()).outcome == "cancelled"
    used = await rig.active()
    with pytest.raises(Conflict, match="in use"):
        await rig.service.cancel("anna", used.request)
    assert len(await rig.tags()) == 1


async def test_the_same_key_is_the_same_request(rig: Rig) -> None:
    wish = NewRequest(shape="1g")
    first = await rig.service.ask("anna", ("physics",), wish, "k1")
    again = await (await rig.again()).service.ask("anna", ("physics",), wish, "k1")
    assert first.id == again.id


# renewing, releasing, ending


async def test_a_lease_is_renewed_up_to_the_longest_of_the_group(rig: Rig) -> None:
    lease = await rig.active("bob", ("ml",), minutes=60)
    renewed = await rig.service.renew("bob", lease.id, Renew(token=lease.token, minutes=30))
    assert (renewed.expires - lease.expires).total_seconds() == 1800
    renewed = await rig.service.renew("bob", lease.id, Renew(token=lease.token, minutes=600))
    assert renewed.expires == renewed.longest
    with pytest.raises(TooMuch):
        await rig.service.renew("bob", lease.id, Renew(token=lease.token, minutes=-3))
    offered = await rig.offered()
    with pytest.raises(Conflict, match="in use"):
        await rig.service.renew("anna", offered.id, Renew(token=offered.token, minutes=5))


async def test_a_release_saves_first_and_the_answer_of_the_kernel_ends_it(rig: Rig) -> None:
    lease = await rig.active()
    assert (await rig.service.release("anna", lease.id, lease.token, by="anna")).state == "saving"
    await rig.pass_by(2)
    assert (await rig.lease()).state == "saving"
    saved = Saved(token=lease.token, names=("x", "model"), failed=({"name": "f", "why": "an open file"},), hooks=1)  # type: ignore[arg-type]
    await rig.service.saved("anna", lease.id, saved)
    await rig.pass_by()
    ended = await rig.lease()
    assert (ended.state, ended.outcome, ended.cause) == ("ended", "released", "released")
    assert ended.saved is not None
    assert (ended.saved.names, ended.saved.failed[0].name, ended.saved.hooks) == (("x", "model"), "f", 1)
    assert await rig.tags() == {}
    assert rig.runner.work == {}


async def test_a_kernel_that_does_not_save_is_not_waited_for(rig: Rig) -> None:
    lease = await rig.active()
    await rig.service.release("anna", lease.id, lease.token, by="anna")
    await rig.pass_by(61)
    assert (await rig.lease()).state == "ended"


async def test_a_kernel_that_has_gone_needs_no_saving(rig: Rig) -> None:
    lease = await rig.active()
    rig.runner.work.clear()
    await rig.service.release("anna", lease.id, lease.token, by="anna")
    await rig.pass_by(1.1)
    assert (await rig.lease()).outcome == "released"


async def test_what_is_released_before_it_is_used_goes_at_once(rig: Rig) -> None:
    lease = await rig.offered()
    await rig.service.release("anna", lease.id, lease.token, by="anna")
    await rig.pass_by()
    assert (await rig.lease()).outcome == "cancelled"
    assert (await rig.service.request("anna", lease.request)).state == "cancelled"
    released = await rig.service.release("anna", lease.id, lease.token, by="anna")
    assert released.state == "ended"


async def test_a_term_ends_with_saving_and_says_why(rig: Rig) -> None:
    lease = await rig.active(minutes=5)
    await rig.service.report("anna", lease.id, Report(token=lease.token, kernel="idle", since=rig.clock.now))
    for _ in range(8):
        await rig.pass_by(60)
    ended = await rig.lease()
    assert (ended.state, ended.outcome) == ("ended", "expired")


async def test_a_kernel_that_ends_by_itself_gives_its_slice_back(rig: Rig) -> None:
    await rig.active()
    rig.runner.work.clear()
    await rig.pass_by(6)
    assert (await rig.lease()).state == "active"
    await rig.pass_by(25)
    ended = await rig.lease()
    assert (ended.state, ended.outcome, ended.reason) == ("ended", "released", "Its kernel has ended.")


async def test_a_kernel_that_is_started_anew_keeps_its_lease(rig: Rig) -> None:
    lease = await rig.active()
    rig.runner.work.clear()
    await rig.pass_by(6)
    again = await rig.service.start_kernel("anna", lease.id, kernel(lease, lease.kernel))
    assert (again.state, again.active) == ("active", lease.active)
    await rig.pass_by(30)
    assert (await rig.lease()).state == "active"
    with pytest.raises(Conflict, match="Another kernel"):
        await rig.service.start_kernel("anna", lease.id, kernel(lease))


# starting


async def test_a_start_asked_twice_is_one(rig: Rig) -> None:
    lease = await rig.offered()
    wish = kernel(lease)
    await rig.service.start_kernel("anna", lease.id, wish)
    await rig.service.start_kernel("anna", lease.id, wish)
    assert rig.runner.started == [lease.id]


async def test_another_kernel_takes_the_place_of_one_that_never_came_up(rig: Rig) -> None:
    lease = await rig.offered()
    await rig.service.start_kernel("anna", lease.id, kernel(lease))
    second = await rig.service.start_kernel("anna", lease.id, kernel(lease, "cafecafe-2"))
    assert (second.kernel, rig.runner.started) == ("cafecafe-2", [lease.id] * 2)


async def test_a_runner_that_refuses_leaves_the_offer(rig: Rig) -> None:
    lease = await rig.offered()
    rig.runner.fails = OSError("no such file")
    with pytest.raises(Unavailable, match="did not take"):
        await rig.service.start_kernel("anna", lease.id, kernel(lease))
    back = await rig.lease()
    assert (back.state, back.kernel, back.expires is not None) == ("offered", None, True)
    rig.runner.fails = Unavailable("The launcher does not answer")
    with pytest.raises(Unavailable, match="launcher"):
        await rig.service.start_kernel("anna", lease.id, kernel(lease))
    rig.runner.fails = None
    assert (await rig.service.start_kernel("anna", lease.id, kernel(lease))).state == "starting"


async def test_a_start_is_told_in_the_words_of_the_site(rig: Rig) -> None:
    lease = await rig.offered()
    await rig.service.start_kernel("anna", lease.id, kernel(lease))
    rig.runner.says[lease.id] = Waiting("No slice of this size is free at the site.")
    await rig.pass_by(1.1)
    assert rig.heard("anna", "gpu.lease")[-1]["reason"] == "No slice of this size is free at the site."
    await rig.pass_by(1000)
    assert (await rig.lease()).state == "starting"
    rig.runner.says[lease.id] = Running("wn042")
    await rig.pass_by(1.1)
    assert (await rig.lease()).reason == "It starts on wn042."
    await rig.pass_by(301)
    back = await rig.lease()
    assert (back.state, back.reason) == ("offered", "It did not get ready within 300 seconds.")


async def test_a_start_that_fails_three_times_ends_the_request_with_its_reason(rig: Rig) -> None:
    lease = await rig.offered()
    for _ in range(3):
        await rig.service.start_kernel("anna", lease.id, kernel(lease))
        rig.runner.work.clear()
        rig.runner.says[lease.id] = Gone("The kernel's worker ended with code 1: no such module")
        await rig.pass_by(1.1)
        rig.runner.says.clear()
    ended, request = await rig.lease(), await rig.service.request("anna", lease.request)
    assert (ended.state, ended.outcome) == ("ended", "failed")
    assert (request.state, "no such module" in request.reason) == ("failed", True)
    assert await rig.tags() == {}


async def test_a_slice_that_cannot_be_made_lets_the_request_wait_on_elsewhere(tmp_path: Path) -> None:
    rig = Rig(tmp_path, pools={"a100": {"actuator": "simulated", "model": "A100-40GB", "cards": 1}})
    await rig.pass_by()
    control(rig, refuse=Refusals(make="the driver says no"))
    request = await rig.ask()
    await rig.pass_by()
    waiting = await rig.service.request("anna", request.id)
    assert (waiting.state, "could not be made" in waiting.reason) == ("queued", True)
    control(rig)
    await rig.pass_by()
    assert (await rig.service.request("anna", request.id)).state == "queued"
    await rig.pass_by(61)
    assert (await rig.service.request("anna", request.id)).state == "granted"
    await rig.close()


# reclaiming


async def test_an_idle_lease_is_taken_only_when_somebody_waits_and_after_notice(rig: Rig) -> None:
    lease = await rig.active("bob", shape="7g", minutes=300)
    report = Report(token=lease.token, kernel="idle", since=rig.clock.now, checkpoint=True)
    await rig.service.report("bob", lease.id, report)
    for _ in range(12):
        await rig.pass_by(100)
    idle = await rig.lease("bob")
    assert (idle.state, idle.checkpoint) == ("active", True)
    assert idle.idle_since is not None
    request = await rig.ask("anna", shape="7g")
    await rig.pass_by(1)
    warned = await rig.lease("bob")
    assert (warned.state, warned.cause) == ("expiring", "reclaimed")
    assert (warned.ends_at.timestamp() - rig.clock.now) == pytest.approx(120, abs=2)
    await rig.pass_by(121)
    assert (await rig.lease("bob")).state == "saving"
    await rig.service.saved("bob", lease.id, Saved(token=lease.token, names=("x",), hooks=1))
    await rig.pass_by()
    assert (await rig.lease("bob")).outcome == "reclaimed"
    assert (await rig.service.request("anna", request.id)).state == "granted"


async def test_its_persons_word_spares_a_lease(rig: Rig) -> None:
    lease = await rig.active("bob", shape="7g", minutes=300)
    await rig.service.report("bob", lease.id, Report(token=lease.token, kernel="idle", since=rig.clock.now))
    for _ in range(12):
        await rig.pass_by(100)
    await rig.ask("anna", shape="7g")
    await rig.pass_by(1)
    kept = await rig.service.renew("bob", lease.id, Renew(token=lease.token, minutes=1))
    assert (kept.state, kept.signal, kept.cause) == ("active", "person", None)
    await rig.pass_by(5)
    assert (await rig.lease("bob")).state == "active"


async def test_a_gpu_that_computes_is_not_idle_whatever_its_kernel_says(rig: Rig) -> None:
    control(rig, script=(Phase(after=0, engine=0.8, memory_gib=2),))
    lease = await rig.active("bob", shape="7g", minutes=300)
    await rig.service.report("bob", lease.id, Report(token=lease.token, kernel="idle", since=rig.clock.now))
    for _ in range(12):
        await rig.pass_by(100)
    await rig.ask("anna", shape="7g")
    await rig.pass_by(1)
    busy = await rig.lease("bob")
    assert (busy.state, busy.signal, busy.idle_since) == ("active", "gpu", None)
    assert len(busy.activity) > 5
    assert busy.activity[-1].engine == pytest.approx(0.8)
    await rig.service.release("bob", lease.id, lease.token, by="bob")
    await rig.pass_by(61)
    (record,) = rig.store.records(0)
    assert record.used_seconds > 1000
    assert record.fraction == 1.0


async def test_a_person_hears_when_a_lease_becomes_idle_and_now_and_then_what_it_does(rig: Rig) -> None:
    control(rig, script=(Phase(engine=0.8, memory_gib=2),))
    lease = await rig.active()
    await rig.pass_by(11)
    assert rig.heard("anna", "gpu.lease")[-1]["signal"] == "gpu"
    heard = len(rig.heard("anna", "gpu.lease"))
    await rig.pass_by(11)
    assert len(rig.heard("anna", "gpu.lease")) == heard
    await rig.pass_by(31)
    last = rig.heard("anna", "gpu.lease")[-1]
    assert (len(last["activity"]) >= 3, last["idle_since"]) == (True, None)
    control(rig)
    await rig.pass_by(11)
    assert rig.heard("anna", "gpu.lease")[-1]["idle_since"] is not None
    assert rig.heard("anna", "gpu.lease")[-1]["id"] == lease.id


async def test_a_lease_of_a_whole_server_is_reclaimed_only_if_its_owner_said_so(rig: Rig) -> None:
    plain = await rig.offered(server=True)
    opted = await rig.offered(server=True, reclaimable=True)
    kernel_lease = await rig.offered()
    assert [one.reclaimable for one in (plain, opted, kernel_lease)] == [False, True, True]


# servers


async def redeemed(rig: Rig, person: str = "anna", server: str = "") -> tuple[str, int, str]:
    lease = await rig.offered(person, server=True)
    grant = await rig.service.grant(person, lease.id, NewGrant(token=lease.token, server=server))
    answer = await rig.service.redeem(Redeem(grant=grant.grant, person=person, server=server))
    assert answer.environment["CUDA_VISIBLE_DEVICES"] == lease.device
    assert answer.text.endswith("simulated")
    assert answer.token > lease.token
    return answer.lease, answer.token, grant.grant


async def test_a_server_takes_its_slice_by_a_grant_that_is_good_once(rig: Rig) -> None:
    identity, token, grant = await redeemed(rig)
    rig.servers.there["anna", ""] = False
    again = await rig.service.redeem(Redeem(grant=grant, person="anna", server=""))
    assert again.token == token
    assert (await rig.service.confirm(None, identity, token)).state == "active"
    with pytest.raises(NotFound, match="used"):
        await rig.service.redeem(Redeem(grant=grant, person="anna", server=""))


@pytest.mark.parametrize(("person", "server", "later"), [("bob", "", 0), ("anna", "other", 0), ("anna", "", 61)])
async def test_a_grant_is_for_one_person_one_server_and_a_minute(
    rig: Rig, person: str, server: str, later: float
) -> None:
    lease = await rig.offered(server=True)
    grant = await rig.service.grant("anna", lease.id, NewGrant(token=lease.token, server=""))
    rig.clock.now += later
    with pytest.raises(NotFound):
        await rig.service.redeem(Redeem(grant=grant.grant, person=person, server=server))
    assert (await rig.lease()).state == "offered"


async def test_a_grant_survives_a_restart_and_only_its_hash_is_kept(rig: Rig) -> None:
    lease = await rig.offered(server=True)
    grant = await rig.service.grant("anna", lease.id, NewGrant(token=lease.token, server=""))
    with rig.engine.connect() as connection:
        dump = "\n".join(connection.connection.driver_connection.iterdump())  # type: ignore[union-attr]
    assert grant.grant not in dump
    after = await rig.again()
    await after.pass_by()
    assert (await after.service.redeem(Redeem(grant=grant.grant, person="anna", server=""))).lease == lease.id
    await after.close()


async def test_a_start_of_a_server_that_fails_leaks_nothing(rig: Rig) -> None:
    identity, token, _ = await redeemed(rig)
    await rig.service.release(None, identity, token, by="service:specola", server_gone=True)
    await rig.pass_by()
    assert await rig.tags() == {}
    assert rig.servers.stopped == []


async def test_a_server_that_never_came_up_gives_its_slice_back(rig: Rig) -> None:
    identity, _, _ = await redeemed(rig)
    await rig.pass_by(61)
    back = await rig.service.lease("anna", identity)
    assert (back.state, back.server, back.reason) == ("offered", None, "The server did not start.")


async def test_a_server_that_came_up_without_a_word_begins_its_lease(rig: Rig) -> None:
    identity, _, _ = await redeemed(rig)
    rig.servers.there["anna", ""] = False
    await rig.pass_by(61)
    assert (await rig.service.lease("anna", identity)).state == "starting"
    rig.servers.there["anna", ""] = True
    await rig.pass_by(1.1)
    assert (await rig.service.lease("anna", identity)).state == "active"


async def test_when_the_lease_of_a_server_ends_the_server_ends_before_its_slice(rig: Rig) -> None:
    identity, token, _ = await redeemed(rig)
    rig.servers.there["anna", ""] = True
    await rig.service.confirm(None, identity, token)
    await rig.service.release("anna", identity, token, by="anna")
    await rig.pass_by(steps=1)
    assert rig.servers.stopped == [("anna", "")]
    assert len(await rig.tags()) == 1
    await rig.pass_by(2)
    assert await rig.tags() == {}


async def test_an_operator_who_ends_the_lease_of_a_server_ends_the_server(rig: Rig) -> None:
    identity, token, _ = await redeemed(rig)
    rig.servers.there["anna", ""] = True
    await rig.service.confirm(None, identity, token)
    ended = await rig.service.release(None, identity, None, by="dora")
    assert ended.reason == "It was given back by dora."
    await rig.pass_by(2)
    await rig.pass_by(2)
    assert (rig.servers.stopped, await rig.tags()) == ([("anna", "")], {})


async def test_a_server_that_is_gone_gives_its_slice_back(rig: Rig) -> None:
    identity, token, _ = await redeemed(rig)
    rig.servers.there["anna", ""] = True
    await rig.service.confirm(None, identity, token)
    await rig.pass_by(30)
    assert (await rig.service.lease("anna", identity)).state == "active"
    rig.servers.there.clear()
    await rig.pass_by(11)
    await rig.pass_by(21)
    ended = await rig.service.lease("anna", identity)
    assert (ended.state, ended.reason) == ("ended", "Its server has ended.")


async def test_slices_for_servers_and_for_kernels_are_not_mixed_up(rig: Rig) -> None:
    whole, single = await rig.offered(server=True), await rig.offered()
    with pytest.raises(Conflict, match="whole server"):
        await rig.service.start_kernel("anna", whole.id, kernel(whole))
    with pytest.raises(Conflict, match="for a kernel"):
        await rig.service.grant("anna", single.id, NewGrant(token=single.token))


# operators


async def test_an_operator_sees_everybody_and_drains_a_gpu(rig: Rig) -> None:
    lease = await rig.active(shape="3g")
    request = await rig.ask("bob", shape="7g")
    await rig.pass_by()
    overview = await rig.service.overview()
    assert [(held.person, held.shape, held.state) for held in overview.held] == [("anna", "3g", "active")]
    assert [one.id for one in overview.queued] == [request.id]
    assert {one.shape for one in overview.fragmentation} >= {"1g", "7g"}
    await rig.service.drain("a100", str(lease.gpu), Drain(reason="a fan is broken"), "dora")
    offers = await rig.service.offers("anna", ("physics",))
    (gpu,) = offers.pools[0].gpus
    assert (gpu.drained, gpu.reason) == (True, "a fan is broken")
    assert all(shape.free == 0 for shape in offers.pools[0].shapes)
    await rig.service.undrain("a100", str(lease.gpu), "dora")
    with pytest.raises(NotFound):
        await rig.service.undrain("a100", str(lease.gpu), "dora")
    with pytest.raises(NotFound):
        await rig.service.drain("a100", "GPU-nothing", Drain(), "dora")


async def test_a_right_that_ends_takes_everything_back(rig: Rig) -> None:
    await rig.active()
    await rig.offered()
    await rig.ask(shape="7g")
    assert await rig.service.people() == {"anna": 3}
    assert len(await rig.service.end_all("anna")) == 3
    await rig.pass_by()
    assert await rig.service.people() == {}
    assert (await rig.tags(), rig.runner.work) == ({}, {})


async def test_the_map_says_what_is_mine_what_is_idle_and_what_is_free(rig: Rig) -> None:
    mine = await rig.active(shape="1g")
    his = await rig.active("bob", shape="3g")
    await rig.service.report("bob", his.id, Report(token=his.token, kernel="busy", since=rig.clock.now))
    await rig.service.report("anna", mine.id, Report(token=mine.token, kernel="idle", since=rig.clock.now))
    offers = await rig.service.offers("anna", ("physics",))
    parts = offers.pools[0].gpus[0].parts
    assert [part.lease for part in parts if part.mine] == [mine.id]
    assert sum(part.size for part in parts) == 8
    assert {(part.shape, part.state) for part in parts} == {("1g", "idle"), ("3g", "busy"), (None, "free")}
    assert offers.hold == 900
    allowance = offers.allowances[0]
    assert (allowance.group, allowance.used_slots, allowance.longest_minutes) == ("physics", 5.0, 480)


async def test_cards_that_do_not_answer_are_said_and_nothing_is_placed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> object:
        raise RuntimeError("NVML_ERROR_UNKNOWN")

    monkeypatch.setattr(rig.pool.actuator, "cards", broken)
    await rig.pass_by(60)
    pool = (await rig.service.offers("anna", ("physics",))).pools[0]
    assert (pool.available, pool.reason) == (False, "Its GPUs do not answer at present.")
    request = await rig.ask()
    await rig.pass_by()
    assert (await rig.service.request("anna", request.id)).state == "queued"
    monkeypatch.undo()
    await rig.pass_by()
    assert (await rig.service.request("anna", request.id)).state == "granted"


async def test_a_site_that_decides_itself_gets_the_kernel_and_gives_the_reason(tmp_path: Path) -> None:
    pools = {"far": {"actuator": "slurm", "model": "H100-80GB", "shapes": ["1g", "3g"], "home": "sync"}}
    rig = Rig(tmp_path, pools=pools, runner=FakeRunner())
    await rig.pass_by()
    lease = await rig.offered(shape="3g")
    assert (lease.gpu, lease.device) == (None, None)
    await rig.service.start_kernel("anna", lease.id, kernel(lease))
    assert rig.runner.work[lease.id].settings["home"] == "sync"
    rig.runner.says[lease.id] = Running("wn1", "MIG-1234")
    await rig.service.confirm("anna", lease.id, lease.token)
    await rig.pass_by(6)
    assert (await rig.lease()).device == "MIG-1234"
    pool = (await rig.service.offers("anna", ("physics",))).pools[0]
    assert (pool.controls_placement, pool.home, {shape.shape for shape in pool.shapes}) == (False, "sync", {"1g", "3g"})
    with pytest.raises(TooMuch, match="whole server"):
        await rig.ask(shape="3g", server=True)
    await rig.service.release("anna", lease.id, lease.token, by="anna")
    await rig.pass_by(61)
    assert rig.runner.work == {}
    await rig.close()
