"""The GPU section in a real Lab, beside a fake facility: every state, both themes, the keyboard, WCAG 2.1 AA."""

from __future__ import annotations

from typing import Any

import pytest
from lab.browsing import SLOW, Seen
from lab.fakegpu import choice, gpu, lease, moment, part, pool, saved, wish
from looking import accessible, drawn_contrast, focused, picture, run_command, tab_to, theme
from playwright.sync_api import Locator, expect
from running import wait_for

pytestmark = pytest.mark.journey

MINE = part(0, 4, "3g", "busy", mine=True, lease="l1")
OTHERS = [part(0, 1, "1g", "busy"), part(1, 1, "1g", "busy"), part(2, 1, "1g", "idle"), part(3, 1), part(4, 4)]


def everything() -> dict[str, Any]:
    """One GPU with a slice of mine, one with those of others, one drained, one with something foreign."""
    return pool(
        gpu(0, MINE, part(4, 4, "3g", "busy")),
        gpu(1, *OTHERS),
        gpu(2, drained=True, reason="new driver at 17:00"),
        gpu(3, part(0, 4, None, "other"), part(4, 4, "3g", "idle")),
    )


def section(seen: Seen) -> Locator:
    return seen.panel.locator("#specola-section-gpu")


def show(seen: Seen, *pools: dict[str, Any]) -> Locator:
    """Put pools in, and open the panel with the GPU section alone."""
    seen.fake.gpus.pools[:] = pools
    seen.facility.do(seen.fake.publish, "resync", {})
    seen.open()
    for other in ("Identity", "Scale-out"):
        seen.panel.get_by_role("button", name=other).first.click()
    gpus = section(seen)
    expect(gpus.get_by_label("GPUs of a100")).to_be_visible()
    return gpus


def tell(seen: Seen, kind: str = "gpu.lease") -> None:
    seen.facility.do(seen.fake.publish, kind, {})


def test_a_facility_without_gpus_says_so(seen: Seen) -> None:
    panel = seen.open()
    expect(panel.get_by_text("This facility offers no GPU.")).to_be_visible()
    assert seen.complaints == []


def test_the_map_and_the_form(seen: Seen) -> None:
    gpus = show(seen, everything())
    expect(gpus.get_by_role("img", name="GPU 0: yours (20 GB), in use (20 GB)")).to_be_visible()
    expect(gpus.get_by_role("img", name="GPU 2: drained, new driver at 17:00")).to_be_visible()
    expect(gpus.get_by_text("simulated").first).to_be_visible()
    slider = gpus.get_by_label("I need")
    slider.focus()
    seen.page.keyboard.press("ArrowRight")
    seen.page.keyboard.press("ArrowRight")
    expect(gpus.get_by_text("It is taken; the wait is 4 to 19 minutes.")).to_be_visible()
    expect(slider).to_have_attribute("aria-valuetext", "20 GB of GPU memory")
    gpus.get_by_label("4g.20gb, 19.5 GiB").check()
    gpus.get_by_label("for", exact=True).select_option(label="2 h")
    seen.look("gpu-form")
    gpus.get_by_role("button", name="Ask").click()
    expect(gpus.get_by_text("20 GB for 2 h")).to_be_visible()
    assert [body for _, path, body in seen.fake.gpus.asked if path == "gpu/requests"] == [
        {"gib": 20, "minutes": 120, "on_grant": "hold", "alternatives": ["4g"]}
    ]
    assert seen.complaints == []


def test_words_in_the_map_can_be_read(seen: Seen) -> None:
    show(seen, everything())
    for kind in ("Light", "Dark"):
        theme(seen.page, kind)
        found = drawn_contrast(seen.page, ".specola-Slice-text")
        assert set(found) == {"yours 20 GB", "in use", "▪", "idle", "free", "drained", "not ours"}
        assert min(found.values()) >= 4.5, found


def test_what_a_kernel_will_not_see_is_said_before(seen: Seen) -> None:
    gpus = show(seen, pool(gpu(0), home="none"), pool(gpu(0), name="hpc", home="sync", gpus=[], simulated=False))
    expect(gpus.get_by_text("sees no file of yours")).to_be_visible()
    gpus.get_by_label("on", exact=True).select_option(value="hpc")
    expect(gpus.get_by_text("sees a copy of its working folder only")).to_be_visible()
    seen.look("gpu-pools")


def test_a_refused_request_stays_in_the_form(seen: Seen) -> None:
    gpus = show(seen, everything())
    detail = "The largest GPU of this facility has 40 GB."
    seen.fake.refuse["POST gpu/requests"] = (422, "No GPU here has that much", detail)
    gpus.get_by_role("button", name="Ask").click()
    expect(gpus.get_by_role("alert")).to_contain_text(detail)
    seen.look("gpu-refused")


def test_in_the_queue(seen: Seen) -> None:
    seen.fake.gpus.wishes.append(wish(position=2, wants=[choice(), choice("4g")], on_grant="kernel"))
    gpus = show(seen, everything() | {"queued": 3})
    card = gpus.get_by_label("Waiting for 20 GB for 2 h")
    expect(card.get_by_text("position 2 of 3")).to_be_visible()
    expect(card.get_by_text("4 – 19 min")).to_be_visible()
    expect(seen.page.locator(".specola-Status")).to_contain_text("GPU: position 2")
    seen.look("gpu-queued")
    card.get_by_role("button", name="Cancel").click()
    expect(card).to_be_hidden()
    assert seen.complaints == []


def test_a_slice_at_work(seen: Seen) -> None:
    seen.fake.gpus.leases.append(lease(kernel="k1"))
    gpus = show(seen, everything())
    card = gpus.get_by_role("article", name="20 GB on A100-40GB, active")
    expect(card.get_by_text("seen by the GPU's own counters")).to_be_visible()
    expect(seen.page.locator(".specola-Status")).to_contain_text("GPU 20 GB (simulated)")
    seen.look("gpu-active")
    accessible(seen.page, ".specola-Status")
    card.get_by_role("button", name="Renew").click()
    wait_for(lambda: seen.fake.gpus.asked, 30, "the renewal")
    assert seen.fake.gpus.asked == [("POST", "gpu/leases/l1/renew", {"token": 3, "minutes": 120})]
    card.get_by_role("button", name="Give back").click()
    dialog = seen.page.get_by_role("dialog")
    expect(dialog).to_contain_text("Its kernel is saved as far as it can be")
    dialog.get_by_role("button", name="Give back").click()
    expect(card).to_be_hidden()
    assert seen.complaints == []


def test_a_slice_that_waits_for_its_person(seen: Seen) -> None:
    show(seen, everything())
    seen.fake.gpus.leases.append(lease(state="offered", active=None, expires=None, ends_at=moment(14), activity=[]))
    tell(seen)
    card = section(seen).get_by_role("article", name="offered")
    expect(card.get_by_text("It is yours: held until")).to_be_visible()
    expect(card.get_by_role("button", name="New GPU notebook")).to_be_visible()
    toast = seen.page.locator(".Toastify__toast")
    expect(toast).to_contain_text("Your GPU is there: 20 GB on A100-40GB")
    toast.get_by_role("button", name="Show").hover()
    seen.look("gpu-offered")


def test_starting_at_a_site_says_the_sites_reason(seen: Seen) -> None:
    why = "HTCondor: 3 jobs are before yours; the next matching round is in at most 40 s."
    seen.fake.gpus.leases.append(lease(state="starting", active=None, expires=None, activity=[], reason=why))
    gpus = show(seen, everything())
    expect(gpus.get_by_text(why)).to_be_visible()
    seen.look("gpu-starting")


def test_an_idle_slice_that_is_taken_back(seen: Seen) -> None:
    show(seen, everything())
    taken = lease(state="expiring", cause="reclaimed", ends_at=moment(1.8), idle_since=moment(-11))
    seen.fake.gpus.leases.append(taken)
    tell(seen)
    alert = section(seen).get_by_role("alert")
    expect(alert).to_contain_text("Somebody waits for a slice and yours is idle")
    expect(alert).to_contain_text("Your checkpoint runs first")
    toast = seen.page.locator(".Toastify__toast")
    expect(toast).to_contain_text("it is taken back at")
    toast.get_by_role("button", name="Keep it").hover()
    seen.look("gpu-reclaimed")
    toast.get_by_role("button", name="Keep it").click()
    expect(seen.page.get_by_text("Kept.", exact=True)).to_be_visible()
    assert seen.fake.gpus.asked == [("POST", "gpu/leases/l1/renew", {"token": 3, "minutes": 1})]
    assert seen.complaints == []


def test_a_lease_that_ends_soon_is_renewed_by_one_click(seen: Seen) -> None:
    show(seen, everything())
    seen.fake.gpus.leases.append(lease(active=moment(-111), expires=moment(9)))
    tell(seen)
    toast = seen.page.locator(".Toastify__toast")
    expect(toast).to_contain_text("ends in")
    toast.get_by_role("button", name="Renew").hover()
    picture(seen.page, "gpu-soon")
    toast.get_by_role("button", name="Renew").click()
    expect(seen.page.get_by_text("Kept.", exact=True)).to_be_visible()
    assert seen.fake.gpus.asked == [("POST", "gpu/leases/l1/renew", {"token": 3, "minutes": 120})]


def test_after_the_end_there_is_what_was_saved(seen: Seen) -> None:
    gone = lease(state="ended", outcome="reclaimed", ends_at=moment(-2), saved=saved(), gpu=None, start=None)
    seen.fake.gpus.leases.append(gone)
    gpus = show(seen, everything())
    card = gpus.get_by_role("article", name="ended")
    expect(card.get_by_text("model, history, epoch")).to_be_visible()
    card.get_by_text("Not saved: stream").click()
    expect(card.get_by_text("cannot pickle")).to_be_visible()
    seen.look("gpu-ended")
    card.get_by_role("button", name="Ask again").click()
    expect(card).to_be_hidden()
    assert seen.fake.gpus.asked[0][2] == {"shape": "3g", "on_grant": "hold", "minutes": 120, "group": "cms"}


def test_many_gpus_are_drawn_small(seen: Seen) -> None:
    gpus = show(seen, pool(*[gpu(n, *(OTHERS if n % 3 else [MINE, part(4, 4)])) for n in range(24)]))
    expect(gpus.get_by_role("img")).to_have_count(24)
    seen.look("gpu-many")


def test_while_the_facility_thinks_there_are_grey_lines(seen: Seen) -> None:
    seen.facility.do(seen.fake.answers.clear)
    seen.page.reload()
    seen.page.locator(".jp-Launcher").wait_for()
    panel = seen.open()
    expect(panel.get_by_role("status", name="Loading the GPUs").locator(".specola-Skeleton").first).to_be_visible()


def test_old_numbers_stay_under_a_problem(seen: Seen) -> None:
    seen.fake.gpus.leases.append(lease(kernel="k1"))
    gpus = show(seen, everything())
    away = (503, "The facility service does not answer", "Try again in a minute.")
    seen.fake.refuse |= {f"GET gpu/{name}": away for name in ("offers", "leases", "requests")}
    tell(seen, "gpu.offers")
    expect(gpus.get_by_role("alert").first).to_contain_text("does not answer")
    expect(gpus.get_by_role("img", name="GPU 0: yours")).to_be_visible()
    seen.look("gpu-stale")
    seen.fake.refuse.clear()
    gpus.get_by_role("button", name="Retry").first.click()
    expect(gpus.get_by_role("alert")).to_be_hidden(timeout=SLOW)


def test_the_keyboard_is_enough(seen: Seen) -> None:
    seen.fake.gpus.pools[:] = [everything()]
    page = seen.page
    seen.facility.do(seen.fake.publish, "resync", {})
    run_command(page, "Ask for a GPU")
    expect(section(seen).get_by_label("I need")).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    tab_to(page, "Ask")
    assert focused(page)["tag"] == "BUTTON"
    page.keyboard.press("Enter")
    expect(section(seen).get_by_text("20 GB for 1 h")).to_be_visible()
    assert seen.complaints == []


def test_a_cell_asks_and_shows_it_live(seen: Seen) -> None:
    """The widget of `gpu.request`: place in the queue, the grant, the notice, a click that keeps it."""
    page = seen.page
    page.get_by_role("button", name="Python 3 (ipykernel)").first.click()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.locator(".jp-CodeCell .cm-content").first.fill("from specola_lab import gpu; gpu.request(gib=16, hours=2)")
    page.keyboard.press("Shift+Enter")
    shown = page.locator(".specola-gpu")
    expect(shown).to_contain_text("position 1")
    expect(shown.get_by_role("button", name="Cancel")).to_be_visible()
    picture(page, "widget-queued")
    made = seen.fake.gpus.wishes[0]
    taken = lease(state="expiring", cause="reclaimed", ends_at=moment(2))
    seen.facility.do(seen.fake.gpus.leases.append, taken)
    seen.facility.do(made.update, {"state": "served", "lease": "l1", "position": None, "reason": ""})
    expect(shown).to_contain_text("Somebody waits and it is idle: it is taken back at")
    expect(shown).to_contain_text("left")
    for kind in ("Light", "Dark"):
        theme(page, kind)
        picture(page, f"widget-{kind.lower()}")
        accessible(page, ".specola-gpu")
    shown.get_by_role("button", name="Keep it").click()
    expect(shown).to_contain_text("In use.")
    assert seen.fake.gpus.asked[-1] == ("POST", "gpu/leases/l1/renew", {"token": 3, "minutes": 1})
    assert seen.complaints == []
