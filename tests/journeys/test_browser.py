"""A physicist's way in a real browser: log in, start, open Lab, a cluster from the panel, the first notebook, stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from looking import accessible, console, picture, theme
from playwright.sync_api import Browser, BrowserContext, Page, expect
from running import Facility, wait_for

pytestmark = pytest.mark.journey

SLOW = 300_000


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="light")
    context.set_default_timeout(SLOW)
    yield context
    context.close()


@pytest.fixture(scope="module")
def page(context: BrowserContext) -> Page:
    return context.new_page()


@pytest.fixture(scope="module")
def complaints(page: Page) -> list[str]:
    """What the browser's console says is wrong, from the first page on."""
    return console(page)


def log_in(page: Page, facility: Facility, name: str) -> None:
    page.goto(facility.url)
    page.get_by_label("Login name").fill(name)
    page.get_by_label("Password").fill(facility.logins()[name]["password"])
    picture(page, f"login-{name}")
    accessible(page)
    page.get_by_role("button", name="Log in").click()


class TestAnna:
    """One person, from the login page to the end of her server; the steps build on each other."""

    def test_she_logs_in_and_sees_who_she_is(self, page: Page, facility: Facility, complaints: list[str]) -> None:
        facility.login("anna").stop_server() if facility.login("anna").server_ready() else None
        log_in(page, facility, "anna")
        page.wait_for_url("**/services/specola/")
        expect(page.get_by_text("Anna Rossi")).to_be_visible()
        expect(page.locator("#main").get_by_text("cms", exact=True)).to_be_visible()
        expect(page.get_by_role("button", name="Start").first).to_be_visible()
        picture(page, "start")
        accessible(page)
        assert complaints == []

    def test_a_home_that_is_nearly_full_is_a_warning(self, page: Page, facility: Facility) -> None:
        report = {"kernels_busy": 0, "kernels_connected": 1, "home_used": int(4.9 * 1024**3)}
        assert facility.login("anna").api("POST", "servers/activity", json=report).status_code == 204
        page.reload()
        expect(page.get_by_text("Your home is 98 % full")).to_be_visible()
        expect(page.locator("#home")).to_contain_text("4.9 of 5 GiB")
        picture(page, "start-full")
        accessible(page)

    def test_she_starts_her_server_and_is_told_what_happens(self, page: Page) -> None:
        page.get_by_role("button", name="Start").first.click()
        expect(page.locator("#servers [aria-busy=true]")).to_be_visible()
        picture(page, "start-progress")
        accessible(page)
        expect(page.get_by_role("link", name="Open")).to_be_visible(timeout=SLOW)
        picture(page, "start-ready")

    def test_her_tabs_share_one_stream(self, page: Page, context: BrowserContext) -> None:
        streams: list[str] = []
        context.on("request", lambda request: streams.append(request.url) if request.url.endswith("/events") else None)
        page.reload()
        expect(page.get_by_role("link", name="Open")).to_be_visible()
        locks = "navigator.locks.query().then(found => [found.held.length, found.pending.length])"
        wait_for(lambda: page.evaluate(locks) == [1, 0], 60, "the first tab reads")
        other = context.new_page()
        other.goto(page.url)
        expect(other.get_by_role("link", name="Open")).to_be_visible()
        wait_for(lambda: other.evaluate(locks) == [1, 1], 60, "one tab reads, the other waits")
        assert len(streams) == 1
        with other.expect_request("**/events"):
            page.goto("about:blank")
        page.goto(other.url)
        other.close()

    def test_lab_opens_with_the_panel(self, page: Page, facility: Facility) -> None:
        page.goto(f"{facility.url}user/anna/lab/workspaces/journey")
        page.locator(".jp-Launcher").wait_for()
        open_panel(page)
        panel = page.locator("#specola-panel")
        expect(panel.get_by_text("Anna Rossi")).to_be_visible()
        expect(panel.get_by_text("No cluster yet")).to_be_visible()
        expect(panel.locator("header").get_by_text("demo", exact=True)).to_be_visible()
        picture(page, "lab")
        accessible(page, "#specola-panel")

    def test_she_makes_a_cluster_of_two_workers(self, page: Page) -> None:
        panel = page.locator("#specola-panel")
        panel.get_by_role("button", name="New cluster").click()
        panel.get_by_role("button", name="Create").click()
        expect(panel.get_by_text("2 / 2")).to_be_visible(timeout=SLOW)
        page.wait_for_timeout(5000)
        picture(page, "cluster")

    def test_the_dashboard_is_behind_the_login(self, page: Page, context: BrowserContext, browser: Browser) -> None:
        with context.expect_page() as opened:
            page.locator("#specola-panel").get_by_role("button", name="Dashboard").click()
        dashboard = opened.value
        dashboard.wait_for_load_state()
        expect(dashboard.get_by_text("Status").first).to_be_visible(timeout=SLOW)
        dashboard.wait_for_timeout(3000)
        picture(dashboard, "dashboard")
        stranger = browser.new_context()
        answer = stranger.request.get(dashboard.url, timeout=SLOW)
        assert "Bokeh" not in answer.text()
        stranger.close()
        dashboard.close()

    def test_insert_cell_gives_a_client(self, page: Page) -> None:
        page.locator("#specola-panel").get_by_role("button", name="Insert cell").click()
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        expect(page.locator(".jp-CodeCell .cm-content").first).to_contain_text("scaleout")
        page.locator(".jp-CodeCell .cm-content").first.click()
        page.keyboard.press("Shift+Enter")
        expect(page.locator(".jp-OutputArea-output").first).to_be_visible(timeout=SLOW)
        picture(page, "cell")

    def test_the_first_notebook_gives_the_four_numbers(self, page: Page, facility: Facility) -> None:
        page.goto(f"{facility.url}user/anna/lab/workspaces/notebook/tree/notebooks/01-first-analysis.ipynb")
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        page.locator(".lm-MenuBar-itemLabel", has_text="Run").first.click()
        page.get_by_text("Run All Cells", exact=True).click()
        page.locator(".jp-OutputArea img").first.wait_for(timeout=SLOW)
        outputs = page.locator(".jp-OutputArea-output")
        expect(outputs.filter(has_text="All four numbers are those that coffea publishes")).to_be_visible(timeout=SLOW)
        page.locator(".jp-OutputArea img").first.scroll_into_view_if_needed()
        picture(page, "notebook")

    def test_dark_theme(self, page: Page, facility: Facility) -> None:
        page.goto(f"{facility.url}user/anna/lab/workspaces/dark")
        page.locator(".jp-Launcher").wait_for()
        theme(page, "Dark")
        open_panel(page)
        page.wait_for_timeout(3000)
        picture(page, "lab-dark")
        accessible(page, "#specola-panel")
        theme(page, "Light")

    def test_she_stops_everything(self, page: Page, facility: Facility) -> None:
        panel = page.locator("#specola-panel")
        panel.get_by_role("button", name="Stop cluster").first.click()
        page.get_by_role("dialog").get_by_role("button", name="Stop").click()
        expect(panel.get_by_text("No cluster yet")).to_be_visible(timeout=SLOW)
        page.goto(f"{facility.url}services/specola/")
        page.get_by_role("button", name="Stop").first.click()
        expect(page.get_by_role("button", name="Start").first).to_be_visible(timeout=SLOW)
        picture(page, "stopped")

    def test_nothing_was_wrong_in_the_console(self, complaints: list[str]) -> None:
        assert complaints == []


def test_the_panel_says_what_happens_when_the_service_is_killed(browser: Browser, facility: Facility) -> None:
    """The facility is said to be away, with the time it was last seen; then it is back by itself.

    The supervisor is held meanwhile: on a slow machine the service would be back before a browser has missed it.
    """
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(SLOW)
    log_in(page, facility, "marco")
    page.wait_for_url("**/services/specola/")
    facility.login("marco").start_server()
    page.goto(f"{facility.url}user/marco/lab/workspaces/killed")
    page.locator(".jp-Launcher").wait_for()
    open_panel(page)
    expect(page.locator("#specola-panel").get_by_text("No cluster yet")).to_be_visible()
    supervisor = facility.status()["supervisor"]
    os.kill(supervisor, signal.SIGSTOP)
    try:
        os.kill(facility.pid("service"), signal.SIGKILL)
        away = page.locator("#specola-panel").get_by_text("The facility does not answer; last seen")
        expect(away).to_be_visible()
        picture(page, "panel-offline")
    finally:
        os.kill(supervisor, signal.SIGCONT)
    expect(away).to_be_hidden(timeout=SLOW)
    expect(page.locator("#specola-panel").get_by_text("No cluster yet")).to_be_visible()
    page.close()
    facility.login("marco").stop_server()


def test_a_person_outside_the_groups_is_refused_clearly(browser: Browser, facility: Facility) -> None:
    page = browser.new_page(color_scheme="dark")
    page.set_default_timeout(SLOW)
    log_in(page, facility, "otto")
    expect(page.get_by_text("not in a group that may use this facility").first).to_be_visible()
    expect(page.get_by_text("theory").first).to_be_visible()
    picture(page, "refused")
    page.close()


def open_panel(page: Page) -> None:
    if not page.locator("#specola-panel").is_visible():
        page.locator(".jp-SideBar.jp-mod-left li[data-id='specola-panel']").click()
    page.locator("#specola-panel").wait_for(state="visible")
