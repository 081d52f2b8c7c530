"""The rules of the queue, of courses, of waiting, of sizes and of layouts, one by one."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from specola.gpu import courses, layouts, sizes
from specola.gpu.adapters.profiles import models
from specola.gpu.planning import explain, plan
from specola.gpu.queueing import decayed, order
from specola.gpu.state import (
    End,
    Extend,
    GpuState,
    Grant,
    GroupShare,
    Holding,
    Lapse,
    Notice,
    PoolState,
    Reserved,
    Slot,
    Spare,
    State,
    Terms,
    Want,
    Wish,
)
from specola.gpu.waiting import Forecast, wait

NOW = 1_000_000.0
MODEL = models()["A100-40GB"]
EIGHT = MODEL.geometry


def pool(cards: int = 1, name: str = "a", **gpu: object) -> PoolState:
    return PoolState(name, EIGHT, tuple(GpuState(f"{name}{index}", **gpu) for index in range(cards)))  # type: ignore[arg-type]


def state(*holdings: Holding, cards: int = 1, **changes: object) -> State:
    return replace(State({"a": pool(cards)}, holdings), **changes)  # type: ignore[arg-type]


def wish(name: str, shape: str = "1g", *, ago: float = 0.0, group: str = "g", **more: object) -> Wish:
    return Wish(name, "bob", group, (Want("a", shape),), NOW - ago, **more)  # type: ignore[arg-type]


def lease(name: str, shape: str, start: int, gpu: str = "a0", **more: object) -> Holding:
    """An active lease that computes, in the middle of its term."""
    values: dict[str, object] = {
        "state": "active",
        "granted": NOW - 7200,
        "active": NOW - 7200,
        "expires": NOW + 7200,
        "computing": True,
        "person": "ann",
        "group": "g",
    }
    slot = Slot(gpu, start, EIGHT.size(shape))
    return Holding(name, "a", slot, shape, **(values | more))  # type: ignore[arg-type]


def idle(name: str, shape: str, start: int, gpu: str = "a0", *, minutes: float = 30, **more: object) -> Holding:
    return lease(name, shape, start, gpu, **({"computing": False, "idle_since": NOW - 60 * minutes} | more))


# the queue


def names(wishes: list[Wish]) -> list[str]:
    return [one.id for one in wishes]


def test_the_older_request_comes_first() -> None:
    assert names(order([wish("new"), wish("old", ago=60)], state(), NOW)) == ["old", "new"]


def test_usage_fades_by_half_in_a_week() -> None:
    assert decayed(8.0, 7 * 86400) == pytest.approx(4.0)
    assert decayed(8.0, 0) == 8.0


def test_a_group_under_its_guarantee_comes_before_all_others_and_only_as_far_as_it_goes() -> None:
    queue = [wish("x1", ago=90, group="x"), wish("y1", group="y"), wish("y2", group="y"), wish("y3", group="y")]
    groups = {"y": GroupShare(guaranteed=3.0, usage=1e9)}
    held = lease("l", "1g", 0, group="y")
    assert names(order(queue, state(held, groups=groups), NOW)) == ["y1", "y2", "x1", "y3"]


def test_the_group_that_used_less_for_its_weight_comes_first() -> None:
    groups = {"x": GroupShare(usage=9e5), "y": GroupShare(usage=1.2e6, weight=2.0)}
    queue = [wish("x", ago=90, group="x"), wish("y", group="y")]
    assert names(order(queue, state(groups=groups), NOW)) == ["y", "x"]


def test_what_leases_may_still_use_counts_as_used() -> None:
    queue = [wish("x", ago=90, group="x"), wish("y", group="y")]
    assert names(order(queue, state(lease("l", "3g", 0, group="x")), NOW)) == ["y", "x"]


def test_groups_with_equal_shares_alternate_however_many_requests_one_has() -> None:
    queue = [wish(f"x{index}", ago=90 - index, group="x") for index in range(3)]
    queue += [wish(f"y{index}", ago=9 - index, group="y") for index in range(2)]
    assert names(order(queue, state(), NOW)) == ["x0", "y0", "x1", "y1", "x2"]


def test_a_request_for_what_is_not_there_is_ordered_all_the_same() -> None:
    odd = Wish("odd", "bob", "g", (Want("elsewhere", "1g"),), NOW - 9)
    assert names(order([wish("new"), odd], state(), NOW)) == ["odd", "new"]
    assert plan(state(), [odd], NOW) == ()
    assert explain(state(), [odd], NOW) == {"odd": (1, "Its pool of GPUs is not there at present.")}


# courses


COURSE = Reserved("school", "a", "2g", 2, NOW - 60, NOW + 3600)


def test_people_of_a_course_come_first_in_its_hours_as_far_as_its_seats_go() -> None:
    queue = [wish("old", "2g", ago=900), *(wish(f"s{index}", "2g", course="school") for index in range(3))]
    facility = state(reserved=(COURSE,))
    assert names(order(queue, facility, NOW)) == ["s0", "s1", "old", "s2"]
    before = state(reserved=(replace(COURSE, start=NOW + 1),))
    assert names(order(queue, before, NOW)) == ["old", "s0", "s1", "s2"]


def test_slices_of_a_course_are_kept_from_an_hour_before_until_its_end() -> None:
    queue = [wish(f"w{index}", "2g") for index in range(3)]
    for start, end, free in ((3601.0, 9000.0, 3), (3600.0, 9000.0, 1), (-60.0, 1.0, 1), (-60.0, 0.0, 3)):
        facility = state(reserved=(replace(COURSE, start=NOW + start, end=NOW + end),))
        assert len(plan(facility, queue, NOW)) == free


def test_a_course_that_holds_its_slices_keeps_no_more() -> None:
    held = [lease("c0", "2g", 0, course="school"), lease("c1", "2g", 2, course="school")]
    assert len(plan(state(*held, reserved=(COURSE,)), [wish("w", "2g")], NOW)) == 1
    assert plan(state(held[0], reserved=(COURSE,)), [wish("w", "2g"), wish("v", "2g")], NOW)[1:] == ()


def test_people_of_a_course_get_the_slices_that_were_kept() -> None:
    queue = [wish(f"w{index}", ago=9) for index in range(7)]
    queue += [wish("s0", "2g", course="school"), wish("s1", "2g", course="school")]
    facility = state(reserved=(COURSE,))
    granted = [action.wish for action in plan(facility, queue, NOW) if isinstance(action, Grant)]
    assert {"s0", "s1"} < set(granted)
    assert len(granted) == 2 + 3
    assert explain(facility, queue, NOW)["w6"][1] == "No 1g is free at present."
    assert "course" in explain(facility, queue[:7], NOW)["w6"][1]


def test_where_a_course_needs_room_idle_leases_are_asked_to_go_and_others_not_renewed() -> None:
    course = replace(COURSE, shape="3g", count=2, start=NOW + 600)
    facility = state(
        idle("quiet", "2g", 0), lease("busy", "1g", 4, expires=NOW + 800), lease("long", "1g", 5), reserved=(course,)
    )
    assert plan(facility, [], NOW) == (Notice("quiet", NOW + 120, "drained"),)
    assert plan(replace(facility, reserved=()), [], NOW) == (Extend("busy", NOW + 2600),)


def test_what_a_course_has_asked_back_goes_though_nobody_waits() -> None:
    course = replace(COURSE, shape="3g", count=2)
    asked = idle("quiet", "2g", 0, state="expiring", ends_at=NOW + 60, cause="drained")
    facility = state(asked, reserved=(course,))
    assert plan(facility, [], NOW) == ()
    assert plan(replace(facility, reserved=()), [], NOW) == (Spare("quiet"),)


def test_a_course_on_a_fixed_layout_waits_for_its_slices() -> None:
    fixed = (("3g", 0), ("2g", 4), ("1g", 6))
    facility = State({"a": pool(fixed=fixed)}, (idle("quiet", "2g", 4),), reserved=(COURSE,))
    assert plan(facility, [wish("w", "2g")], NOW) == (Notice("quiet", NOW + 120, "drained"),)


def test_gpus_of_others_and_drained_ones_are_not_emptied_for_a_course() -> None:
    course = replace(COURSE, shape="7g", count=3)
    gpus = (GpuState("a0", drained=True), GpuState("a1", foreign=((0, 1),)), GpuState("a2"))
    holdings = (idle("x", "1g", 0, "a0"), idle("y", "1g", 4, "a1"), lease("z", "1g", 0, "a2", course="school"))
    facility = State({"a": PoolState("a", EIGHT, gpus)}, holdings, reserved=(course,))
    assert plan(facility, [], NOW) == ()


def test_a_reservation_where_a_site_places_or_of_an_unknown_shape_keeps_nothing() -> None:
    site = State({"a": PoolState("a", EIGHT, places=False)}, reserved=(COURSE,))
    assert plan(site, [wish("w", "2g")], NOW) == (Grant("w", Want("a", "2g"), None),)
    odd = state(reserved=(replace(COURSE, shape="9g"),))
    assert len(plan(odd, [wish("w", "7g")], NOW)) == 1


def test_a_course_needs_gpus_for_those_who_come() -> None:
    """The figures of the planner's study: 40 seats at 85 %, 150 at 85 %."""
    need = {shape: courses.need(MODEL, shape, 40, 0.85) for shape in ("1g", "1gx2", "2g")}
    assert {one.attendance for one in need.values()} == {39}
    assert [one.gpus for one in need.values()] == [6, 10, 13]
    assert [courses.need(MODEL, shape, 150, 0.85).gpus for shape in need] == [20, 35, 46]
    assert courses.need(MODEL, "whole", 3, 1.0) == courses.Need(3, 1, 3)


def test_a_course_that_fits_has_no_conflicts() -> None:
    assert courses.conflicts(pool(2), COURSE, [replace(COURSE, course="other")], [lease("l", "1g", 0)]) == ()
    apart = replace(COURSE, course="other", count=9, start=COURSE.end, end=COURSE.end + 60)
    assert courses.conflicts(pool(1), COURSE, [apart, replace(COURSE, pool="b", count=9)]) == ()


def test_conflicts_of_a_course_are_said_in_sentences() -> None:
    big = replace(COURSE, count=4)
    assert courses.conflicts(pool(1), big) == ("The pool holds 3 of 4 slices 2g when it is empty.",)
    other = replace(COURSE, course="other", shape="3g", count=1)
    (said,) = courses.conflicts(pool(1), COURSE, [other, replace(COURSE, course="third", shape="1g", count=4)])
    assert said == "2 slices are missing while there is also other (1 of 3g), third (4 of 1g)."
    late = lease("l", "4g", 0, expires=COURSE.start + 7200)
    (said,) = courses.conflicts(pool(1), COURSE, (), [late, lease("ends", "2g", 4, expires=COURSE.start)])
    assert said == "1 slices are taken at the start by a lease that may run until 1970-01-12 15:45 UTC."
    (said,) = courses.conflicts(pool(1), COURSE, (), [replace(late, expires=None), lease("m", "1g", 4)])
    assert said == "2 slices are taken at the start by 2 leases that may run until an unknown time."


# endings, renewals, reclaiming


def test_what_is_over_ends() -> None:
    facility = state(
        lease("over", "1g", 0, expires=NOW),
        lease("last", "1g", 1, expires=NOW + 119),
        lease("going", "1g", 2, state="expiring", ends_at=NOW, cause="reclaimed"),
        lease("offer", "1g", 3, state="offered", active=None, expires=NOW),
        lease("held", "1g", 4, state="offered", active=None, expires=NOW + 1),
        lease("mine", "1g", 5, state="expiring", ends_at=NOW + 9, cause="released"),
        lease("saves", "1g", 6, state="saving"),
    )
    assert plan(facility, [], NOW) == (
        End("over", "term"),
        Notice("last", NOW + 119, "term"),
        End("going", "reclaimed"),
        Lapse("offer"),
    )


def test_the_cause_of_a_notice_is_told_from_its_time_where_nobody_kept_it() -> None:
    term = lease("t", "1g", 0, state="expiring", expires=NOW, ends_at=NOW)
    other = lease("o", "1g", 1, state="expiring", ends_at=NOW)
    assert plan(state(term, other), [], NOW) == (End("t", "term"), End("o", "reclaimed"))


def test_a_lease_that_computes_is_renewed_while_nobody_waits_and_as_long_as_its_group_may() -> None:
    short = lease("l", "7g", 0, expires=NOW + 600)
    assert plan(state(short), [], NOW) == (Extend("l", NOW + 2400),)
    groups = {"g": GroupShare(longest=7200 + 700)}
    assert plan(state(short, groups=groups), [], NOW) == (Extend("l", NOW + 700),)
    assert plan(state(short, groups={"g": GroupShare(longest=7200)}), [], NOW) == ()
    assert plan(state(short), [wish("w")], NOW) == ()
    assert plan(state(replace(short, expires=NOW + 901)), [], NOW) == ()
    assert plan(state(replace(short, computing=False)), [], NOW) == ()


def test_waiting_for_something_else_does_not_stop_a_renewal() -> None:
    short = lease("l", "1g", 6, expires=NOW + 600)
    other = lease("m", "4g", 0)
    assert plan(state(short, other, lease("n", "2g", 4)), [wish("w", "4g")], NOW) == (Extend("l", NOW + 2400),)
    assert plan(state(short, other, lease("n", "2g", 4)), [wish("w", "9g")], NOW) == (Extend("l", NOW + 2400),)


def test_what_is_granted_now_is_in_the_way_of_others_too() -> None:
    """The 1g goes to the low half: whoever waits for a 4g is not served by the end of the lease beside it."""
    facility = state(lease("l", "1g", 0, expires=NOW + 600), lease("m", "3g", 4))
    assert plan(facility, [wish("w"), wish("v", "4g")], NOW) == (
        Grant("w", Want("a", "1g"), Slot("a0", 1, 1)),
        Extend("l", NOW + 2400),
    )


def test_a_lease_is_not_renewed_on_a_drained_gpu_or_against_the_maximum_of_its_group() -> None:
    short = lease("l", "3g", 4, expires=NOW + 600)
    drained = State({"a": pool(drained=True)}, (short,))
    assert plan(drained, [], NOW) == ()
    full = state(short, groups={"g": GroupShare(maximum=4.0)})
    assert plan(full, [wish("w")], NOW) == ()
    gone = State({"b": pool(name="b")}, (short,))
    assert plan(gone, [], NOW) == ()


def test_a_lease_of_a_fixed_layout_is_renewed_unless_somebody_waits_for_its_shape() -> None:
    fixed = (("4g", 0), ("3g", 4))
    facility = State({"a": pool(fixed=fixed)}, (lease("l", "3g", 4, expires=NOW + 600), lease("m", "4g", 0)))
    assert plan(facility, [wish("w", "4g")], NOW) == (Extend("l", NOW + 2400),)
    assert plan(facility, [wish("w", "3g")], NOW) == ()


def test_as_few_as_serve_are_asked_and_the_longest_idle_first() -> None:
    facility = state(idle("long", "3g", 4, minutes=50), idle("short", "4g", 0, minutes=20))
    assert plan(facility, [wish("w")], NOW) == (Notice("long", NOW + 120, "reclaimed"),)
    assert [action.lease for action in plan(facility, [wish("w", "7g")], NOW)] == ["long", "short"]  # type: ignore[union-attr]
    assert plan(facility, [wish("w"), wish("v", "2g")], NOW) == (Notice("long", NOW + 120, "reclaimed"),)


def test_of_equally_many_those_are_asked_whose_kernels_can_save_themselves() -> None:
    facility = state(idle("lost", "3g", 4, minutes=50), idle("saved", "4g", 0, minutes=20, checkpoint=True))
    assert plan(facility, [wish("w")], NOW) == (Notice("saved", NOW + 120, "reclaimed"),)


def test_what_ends_anyway_spares_others_a_notice() -> None:
    facility = state(idle("quiet", "4g", 0), lease("going", "3g", 4, state="saving"))
    assert plan(facility, [wish("w", "3g")], NOW) == ()
    assert plan(facility, [wish("w", "4g")], NOW) == (Notice("quiet", NOW + 120, "reclaimed"),)


def test_whoever_computes_again_or_is_not_needed_any_more_may_stay() -> None:
    asked = idle("asked", "7g", 0, state="expiring", ends_at=NOW + 60, cause="reclaimed")
    assert plan(state(asked), [wish("w")], NOW) == ()
    assert plan(state(asked), [], NOW) == (Spare("asked"),)
    again = replace(asked, computing=True, idle_since=None)
    assert plan(state(again), [wish("w")], NOW) == (Spare("asked"),)


def test_where_the_idle_were_warned_the_notice_counts_from_the_warning() -> None:
    warned = Terms(warned=True)
    assert plan(state(idle("q", "7g", 0), terms=warned), [wish("w")], NOW) == (Notice("q", NOW, "reclaimed"),)
    fresh = state(idle("q", "7g", 0, minutes=11), terms=warned)
    assert plan(fresh, [wish("w")], NOW) == (Notice("q", NOW + 60, "reclaimed"),)


def test_a_group_at_its_maximum_makes_room_among_its_own_as_little_as_will_do() -> None:
    groups = {"g": GroupShare(maximum=4.0)}
    own = [idle("two", "2g", 0), idle("one", "1g", 2, minutes=11), idle("me", "1g", 3, minutes=12)]
    other = idle("other", "3g", 4, group="h", minutes=99)
    full = state(*own, other, groups=groups)
    assert plan(full, [wish("w")], NOW) == (Notice("me", NOW + 120, "reclaimed"),)
    assert {one.lease for one in plan(full, [wish("w", "3g")], NOW)} == {"two", "one", "me"}  # type: ignore[union-attr]
    free = state(*own, cards=2, groups=groups)
    assert {one.lease for one in plan(free, [wish("w", "3g")], NOW)} == {"two", "one", "me"}  # type: ignore[union-attr]
    assert explain(full, [wish("w")], NOW)["w"][1] == "Group g holds 4 of the 4 slots that it may have."
    assert plan(state(lease("l", "3g", 4), groups=groups), [wish("w")], NOW) == ()


def test_engines_of_others_that_stay_are_no_room() -> None:
    """The idle slice lies beside one that has the media engines: its going serves a 1g, and no 1g+me."""
    media = lease("media", "1g+me", 0)
    rest = [lease("low", "1g", 1), lease("mid", "2g", 2), lease("high", "2g", 4), idle("quiet", "1g", 6)]
    assert plan(state(media, *rest), [wish("w", "1g+me")], NOW) == ()
    assert plan(state(media, *rest), [wish("w", "1g")], NOW) == (Notice("quiet", NOW + 120, "reclaimed"),)
    two = state(idle("media", "1g+me", 0), *rest)
    assert plan(two, [wish("w", "1g+me")], NOW) == (Notice("media", NOW + 120, "reclaimed"),)


def test_slices_of_a_fixed_layout_are_asked_back_one_for_one() -> None:
    fixed = (("1g", 0), ("1g", 1), ("1g", 2), ("3g", 4))
    holdings = (idle("x", "1g", 0), idle("y", "1g", 1, minutes=50), lease("z", "1g", 2), idle("big", "3g", 4))
    facility = State({"a": pool(fixed=fixed)}, holdings)
    asked = [action.lease for action in plan(facility, [wish("w"), wish("v"), wish("u")], NOW)]  # type: ignore[union-attr]
    assert asked == ["x", "y"]
    assert plan(facility, [wish("w")], NOW) == (Notice("y", NOW + 120, "reclaimed"),)


def test_a_fixed_layout_under_slices_of_others_offers_what_they_leave() -> None:
    gpu = GpuState("a0", fixed=(("1g", 0), ("1g", 1)), foreign=((0, 1),))
    facility = State({"a": PoolState("a", EIGHT, (gpu,))})
    assert plan(facility, [wish("w"), wish("v")], NOW) == (Grant("v", Want("a", "1g"), Slot("a0", 1, 1)),) or (
        plan(facility, [wish("w"), wish("v")], NOW) == (Grant("w", Want("a", "1g"), Slot("a0", 1, 1)),)
    )


def test_a_pool_offers_the_shapes_that_it_names_and_no_others() -> None:
    whole = State({"a": replace(pool(2), shapes=frozenset({"whole"}))})
    assert plan(whole, [wish("w", "whole"), wish("v", "1g")], NOW) == (
        Grant("w", Want("a", "whole"), Slot("a0", 0, 8)),
    )


def test_a_slot_of_a_shape_that_is_no_more_is_taken_all_the_same() -> None:
    odd = Holding("odd", "a", Slot("a0", 0, 7), "custom", "ann", "g", "active", NOW, expires=NOW + 9999)
    assert plan(state(odd), [wish("w", "1g")], NOW) == ()


def test_an_idle_slice_of_an_unknown_shape_is_asked_back_by_its_size() -> None:
    odd = replace(idle("odd", "3g", 0), shape="custom", slot=Slot("a0", 0, 3))
    facility = state(odd, lease("l", "3g", 4))
    assert plan(facility, [wish("w", "4g")], NOW) == (Notice("odd", NOW + 120, "reclaimed"),)
    assert wait(facility, (wish("w", "4g"),), Want("a", "4g"), NOW, "w") == (120.0, 7260.0)


def test_leases_of_a_pool_that_is_gone_are_left_alone() -> None:
    gone = replace(idle("gone", "3g", 0), pool="b")
    assert plan(state(gone, lease("l", "7g", 0)), [wish("w")], NOW) == ()
    assert plan(state(gone, groups={"g": GroupShare(maximum=0.0)}), [wish("w")], NOW) == ()


# sites that place by themselves


def site(*holdings: Holding) -> State:
    return State({"a": PoolState("a", EIGHT, places=False, shapes=frozenset({"1g", "2g"}))}, holdings)


def at_site(name: str, shape: str = "1g", **more: object) -> Holding:
    return replace(lease(name, shape, 0), slot=None, **more)  # type: ignore[arg-type]


def test_where_a_site_places_a_grant_is_a_submission() -> None:
    assert plan(site(), [wish("w"), wish("v", "3g")], NOW) == (Grant("w", Want("a", "1g"), None),)
    limited = replace(site(at_site("l", "2g")), groups={"g": GroupShare(maximum=2.0)})
    assert plan(limited, [wish("w")], NOW) == ()
    assert wait(site(), [], Want("a", "1g"), NOW) == (0.0, None)


def test_leases_that_start_at_a_site_for_long_have_idle_ones_of_the_same_shape_asked_back() -> None:
    starting = at_site("s", state="starting", granted=NOW - 120, active=None, computing=False)
    quiet = at_site("q", computing=False, idle_since=NOW - 900)
    other = at_site("o", "2g", computing=False, idle_since=NOW - 900)
    again = wish("w", "3g")
    assert plan(site(starting, quiet, other), [again], NOW) == (Notice("q", NOW + 120, "reclaimed"),)
    assert plan(site(replace(starting, granted=NOW - 60), quiet), [again], NOW) == ()
    going = at_site("g", state="saving")
    assert plan(site(starting, quiet, going), [again], NOW) == ()


def test_a_lease_at_a_site_is_not_renewed_while_another_starts() -> None:
    short = at_site("l", expires=NOW + 600)
    assert plan(site(short), [], NOW) == (Extend("l", NOW + 2400),)
    starting = at_site("s", "2g", state="starting", active=None, expires=None, computing=False)
    assert plan(site(short, starting), [], NOW) == ()


def test_a_group_at_its_maximum_makes_room_at_a_site_too() -> None:
    facility = replace(site(at_site("q", computing=False, idle_since=NOW - 900)), groups={"g": GroupShare(maximum=1.0)})
    assert plan(facility, [wish("w")], NOW) == (Notice("q", NOW + 120, "reclaimed"),)


# waiting


def test_what_is_free_needs_no_wait() -> None:
    assert wait(state(), [], Want("a", "1g"), NOW) is None
    assert wait(state(), [wish("w")], Want("a", "1g"), NOW, "w") is None
    assert wait(state(), [], Want("a", "1g"), NOW, "unknown") is None


def test_a_wait_ends_with_the_terms_of_leases_in_order() -> None:
    first, second = lease("x", "4g", 0, expires=NOW + 1000), lease("y", "3g", 4, expires=NOW + 3000)
    queue = (wish("w", "3g", seconds=5000), wish("v", "3g"))
    facility = state(first, second)
    assert wait(facility, queue, Want("a", "3g"), NOW, "w") == (1060.0, 1060.0)
    assert wait(facility, queue, Want("a", "3g"), NOW, "v") == (3060.0, 3060.0)
    assert wait(facility, queue, Want("a", "7g"), NOW) == (6720.0, 6720.0)


def test_idle_leases_make_the_low_end_of_a_wait_and_not_the_high_one() -> None:
    facility = state(idle("x", "7g", 0, minutes=5))
    assert wait(facility, (wish("w"),), Want("a", "1g"), NOW, "w") == (420.0, 7260.0)
    forced = state(idle("x", "7g", 0, reclaimable=False))
    assert wait(forced, (wish("w"),), Want("a", "1g"), NOW, "w") == (7260.0, 7260.0)


def test_leases_that_end_early_make_the_low_end_lower() -> None:
    """Ten leases, each ended early once in 1000 s: in one case of ten the first of them is gone within 10.5 s."""
    many = [lease(f"l{index}", "3g", 4 * (index % 2), f"a{index // 2}") for index in range(10)]
    facility = replace(state(*many, cards=5), early_release=1e-3)
    found = wait(facility, (wish("w", "3g"),), Want("a", "3g"), NOW, "w")
    assert found is not None
    assert found[0] == pytest.approx(10.5, rel=0.08)
    assert found[1] == 7260.0
    lone = replace(state(lease("l", "7g", 0)), early_release=1e-3)
    assert wait(lone, (wish("w", "7g"), wish("v", "7g")), Want("a", "7g"), NOW) == (14_580.0, 14_580.0)


def test_offers_lapse_at_the_low_end_and_are_used_to_the_full_at_the_high_one() -> None:
    offered = lease("o", "7g", 0, state="offered", active=None, expires=NOW + 300, computing=False)
    groups = {"g": GroupShare(longest=1000)}
    assert wait(state(offered, groups=groups), [], Want("a", "1g"), NOW) == (300.0, 1360.0)
    making = replace(offered, state="making", expires=None)
    assert wait(state(making, groups=groups), [], Want("a", "1g"), NOW) == (1960.0, 1960.0)
    saving = replace(offered, state="saving")
    assert wait(state(saving), [], Want("a", "1g"), NOW) == (1.0, 60.0)
    expiring = lease("e", "7g", 0, state="expiring", ends_at=NOW + 100, cause="reclaimed")
    assert wait(state(expiring), [], Want("a", "1g"), NOW) == (100.0, 160.0)


def test_nobody_can_say_how_long_when_nothing_ends() -> None:
    foreign = State({"a": pool(foreign=((0, 8),))})
    assert wait(foreign, (wish("w"),), Want("a", "1g"), NOW, "w") == (0.0, None)
    assert wait(foreign, (), Want("elsewhere", "1g"), NOW) == (0.0, None)
    full = state(groups={"g": GroupShare(maximum=0.0)})
    assert wait(full, (wish("w"),), Want("a", "1g"), NOW, "w") == (0.0, None)


def test_the_slices_of_a_course_are_free_again_after_it() -> None:
    course = replace(COURSE, shape="7g", count=1)
    facility = state(reserved=(course,))
    assert wait(facility, (wish("w"),), Want("a", "1g"), NOW, "w") == (3600.0, 3600.0)


def test_slices_of_a_fixed_layout_come_free_as_they_are() -> None:
    fixed = (("1g", 0), ("3g", 4))
    facility = State({"a": pool(fixed=fixed)}, (lease("l", "3g", 4, expires=NOW + 100),))
    assert wait(facility, (), Want("a", "3g"), NOW) == (160.0, 160.0)
    drained = State({"a": pool(drained=True)}, (lease("l", "3g", 4, expires=NOW + 100),))
    assert wait(drained, (), Want("a", "3g"), NOW) == (0.0, None)


def test_one_forecast_answers_all_questions_of_a_moment() -> None:
    facility, queue = state(lease("l", "7g", 0)), (wish("w"),)
    assert wait(facility, queue, Want("a", "1g"), NOW) == Forecast(facility, queue, NOW).of_want(Want("a", "1g"))
    assert wait(facility, queue, Want("a", "1g"), NOW + 100) == (7160.0, 7160.0)


# sizes


@pytest.mark.parametrize(
    ("gib", "shapes"),
    [
        (20, ("3g", "4g", "7g", "whole")),
        (21, ("3g", "4g", "7g", "whole")),
        (21.1, ("7g", "whole")),
        (16, ("3g", "4g", "7g", "whole")),
        (10, ("1gx2", "2g", "3g", "4g", "7g", "whole")),
        (1, ("1g", "1gx2", "2g", "3g", "4g", "7g", "whole")),
        (40, ("7g", "whole")),
        (80, ()),
    ],
)
def test_sizes_are_as_people_say_them(gib: float, shapes: tuple[str, ...]) -> None:
    """20 GB is the slice that is called 20gb, though a program sees 19.5 GiB of it."""
    assert sizes.shapes_for(gib, MODEL) == shapes


def test_slices_with_special_engines_are_not_offered_by_size() -> None:
    rtx = models()["RTX-PRO-6000-96GB"]
    assert sizes.shapes_for(24, rtx) == ("1g", "2g", "4g", "whole")
    assert sizes.named(rtx.profiles["1g+me"]) == 23.62


def choice(profile: str, slots: float, free: int) -> sizes.Sized:
    return SimpleNamespace(profile=profile, slots=slots, free=free)


def test_the_next_size_up_is_mentioned_when_it_costs_much_more_or_waits_longer() -> None:
    small, large = choice("3g.20gb", 4, 1), choice("7g.40gb", 8, 1)
    takes = "The next size up, 7g.40gb, takes 2 times as much of a GPU."
    assert sizes.next_up(small, [large, choice("4g.20gb", 4, 0)]) == takes
    waiting = choice("7g.40gb", 8, 0)
    assert sizes.next_up(small, [waiting]) == takes.replace(".\n", "")[:-1] + " and waits longer."
    assert (
        sizes.next_up(choice("2g.10gb", 2, 1), [choice("3g.20gb", 3, 0)]) == "The next size up, 3g.20gb, waits longer."
    )
    assert sizes.next_up(choice("2g.10gb", 2, 1), [choice("3g.20gb", 3, 2)]) == ""
    assert sizes.next_up(large, [small]) == ""


# layouts


def test_every_full_layout_of_a_gpu_is_known() -> None:
    found = layouts.patterns(MODEL)
    assert ("7g",) in found
    assert ("3g", "3g") in found
    assert ("4g", "3g") in found
    assert ("1g",) * 7 in found
    assert len(found) == len(set(found))
    assert len(layouts.patterns(models()["A30-24GB"])) == 4


def test_the_layout_that_is_proposed_follows_what_was_asked() -> None:
    small = [layouts.Used("1g", at * 100.0, 700.0) for at in range(200)]
    found = layouts.propose(small, MODEL, 1)
    assert found.layouts == (("1g",) * 7,)
    assert found.served == pytest.approx(1.0)
    mixed = [*small, *(layouts.Used("7g", at * 1000.0, 900.0) for at in range(20))]
    found = layouts.propose(mixed, MODEL, 1)
    assert found.unserved in ({"7g": 20}, {"1g": 200})
    assert layouts.propose(mixed, MODEL, 2).layouts == (("7g",), ("1g",) * 7)
    assert layouts.propose([], MODEL, 1).served == 0.0


def test_exchanging_layouts_improves_on_one_gpu_after_the_other() -> None:
    worth = {"4g": (10.0,), "3g": (10.0, 9.0, 9.0), "7g": (25.0,)}
    better = layouts._exchanged([("3g", "3g"), ("3g", "3g")], layouts.patterns(MODEL), worth)
    assert sorted(better) in ([("3g", "3g"), ("7g",)], [("4g", "3g"), ("7g",)])
