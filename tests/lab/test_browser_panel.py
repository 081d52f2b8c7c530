"""The panel in a real Lab and a real browser, beside a fake facility: its states, the keyboard alone, WCAG 2.1 AA."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from lab.browsing import SLOW, Seen
from looking import accessible, focused, picture, run_command, tab_to
from playwright.sync_api import expect
from running import wait_for

pytestmark = pytest.mark.journey


def test_empty_and_who_i_am(seen: Seen) -> None:
    panel = seen.open()
    expect(panel.get_by_text("No cluster yet")).to_be_visible()
    expect(panel.locator("header").get_by_text("cnaf", exact=True)).to_be_visible()
    expect(panel.get_by_text("Anna Rossi")).to_be_visible()
    panel.get_by_text("What may I use, and why").click()
    seen.look("empty")
    assert seen.complaints == []


def test_a_cluster_at_work(seen: Seen) -> None:
    seen.cluster()
    panel = seen.open()
    expect(panel.get_by_text("2 / 2")).to_be_visible()
    expect(panel.get_by_text("1204 done")).to_be_visible()
    expect(seen.page.locator(".specola-Status")).to_contain_text("2 workers")
    panel.get_by_role("button", name="New cluster").click()
    seen.look("cluster")
    accessible(seen.page, ".specola-Status")
    assert seen.complaints == []


def test_the_range_of_an_adaptive_cluster_fits_the_panel(seen: Seen) -> None:
    seen.cluster()
    panel = seen.open()
    panel.get_by_label("Adaptive").check()
    row = panel.locator(".specola-mod-scale")
    expect(row.get_by_label("from")).to_be_visible()
    tops = {round(row.get_by_label(name).bounding_box()["y"]) for name in ("from", "to")}  # type: ignore[index]
    assert len(tops) == 1, "both bounds stand in one line"
    box, inside = panel.bounding_box(), row.get_by_label("to").bounding_box()
    assert box is not None
    assert inside is not None
    assert inside["x"] + inside["width"] < box["x"] + box["width"]
    seen.look("adaptive")


def test_while_the_facility_thinks_there_are_grey_lines(seen: Seen) -> None:
    seen.facility.do(seen.fake.answers.clear)
    seen.page.reload()
    seen.page.locator(".jp-Launcher").wait_for()
    panel = seen.open()
    expect(panel.get_by_role("status", name="Loading your clusters").locator(".specola-Skeleton").first).to_be_visible()
    seen.look("loading")


def test_a_refusal_says_why_and_what_to_quote(seen: Seen) -> None:
    seen.fake.refuse["GET scaleout/clusters"] = (503, "The clusters cannot be read", "The gateway is being restarted.")
    seen.page.reload()
    seen.page.locator(".jp-Launcher").wait_for()
    panel = seen.open()
    problem = panel.get_by_role("alert")
    expect(problem).to_contain_text("The gateway is being restarted.")
    expect(problem.get_by_role("button", name="Copy request id")).to_be_visible()
    seen.look("problem")
    seen.fake.refuse.clear()
    problem.get_by_role("button", name="Retry").click()
    expect(panel.get_by_text("No cluster yet")).to_be_visible()


def test_a_facility_that_is_away_is_a_banner_and_the_old_numbers(seen: Seen) -> None:
    seen.cluster()
    panel = seen.open()
    expect(panel.get_by_text("2 / 2")).to_be_visible()
    away = (503, "The facility service does not answer", "Try again in a minute.")
    seen.fake.refuse |= {"GET events": away, "GET scaleout/clusters": away}
    seen.facility.do(seen.fake.publish, "scaleout.cluster", {})
    expect(panel.get_by_role("alert")).to_contain_text("does not answer")
    seen.facility.do(seen.fake.hang_up)
    expect(panel.get_by_text("The facility does not answer; last seen")).to_be_visible()
    expect(panel.get_by_text("2 / 2")).to_be_visible()
    seen.look("offline")
    seen.fake.refuse.clear()
    expect(panel.get_by_text("The facility does not answer; last seen")).to_be_hidden(timeout=SLOW)


def test_a_failed_cluster_says_why(seen: Seen) -> None:
    made = seen.cluster()
    why = "The scheduler ended at once: no space left on device."
    seen.facility.do(made.update, {"status": "failed", "reason": why})
    seen.facility.do(seen.fake.publish, "scaleout.cluster", made)
    panel = seen.open()
    expect(panel.get_by_text(why)).to_be_visible()
    seen.look("failed")


def test_a_server_that_is_to_be_stopped_is_kept_by_a_click(seen: Seen) -> None:
    at = datetime.now(UTC) + timedelta(minutes=5)
    before = len(seen.fake.reports)
    wait_for(lambda: seen.fake.listeners, 60, "the stream")
    event = {"server": "", "at": at.isoformat(), "why": "nothing has happened in it for a long time"}
    seen.facility.do(seen.fake.publish, "servers.culling", event)
    toast = seen.page.locator(".Toastify__toast")
    expect(toast).to_contain_text("because nothing has happened in it for a long time")
    toast.get_by_role("button", name="Keep it").hover()  # waits until it is in its place
    picture(seen.page, "culling")
    toast.get_by_role("button", name="Keep it").click()
    expect(seen.page.get_by_text("Kept.", exact=True)).to_be_visible()
    assert [r["kernels_connected"] for r in seen.fake.reports[before:] if r["kernels_connected"]] == [1]
    assert seen.complaints == []


def test_the_keyboard_is_enough(seen: Seen) -> None:
    page = seen.page
    run_command(page, "Open the Specola Panel")
    expect(seen.panel.get_by_text("No cluster yet")).to_be_visible()
    tab_to(page, "New cluster")
    page.keyboard.press("Enter")
    expect(seen.panel.get_by_label("Workers")).to_be_focused()
    page.keyboard.press("ArrowRight")
    picture(page, "panel-form")
    tab_to(page, "Create")
    page.keyboard.press("Enter")
    expect(seen.panel.get_by_text("3 / 3")).to_be_visible()
    expect(seen.panel.get_by_role("button", name="New cluster")).to_be_focused()
    for _ in range(20):
        if focused(page)["text"] == "Stop":
            break
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Its 3 workers and the results that they hold are lost")
    picture(page, "panel-stop")
    page.keyboard.press("Enter")
    expect(seen.panel.get_by_text("No cluster yet")).to_be_visible()
    assert seen.complaints == []


def test_every_section_folds_by_the_keyboard(seen: Seen) -> None:
    seen.open()
    head = seen.panel.get_by_role("button", name="Scale-out")
    head.focus()
    seen.page.keyboard.press("Enter")
    expect(head).to_have_attribute("aria-expanded", "false")
    expect(seen.panel.get_by_text("No cluster yet")).to_be_hidden()
    seen.page.keyboard.press("Space")
    expect(seen.panel.get_by_text("No cluster yet")).to_be_visible()
