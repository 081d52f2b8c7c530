"""Each person's server on a host name of its own, so that a page written by one cannot act beside the hub."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect
from running import TOP, Facility, started

pytestmark = [pytest.mark.journey, pytest.mark.needs_root]


@pytest.fixture(scope="module")
def facility() -> Iterator[Facility]:
    """Browsers send every name below `localhost` to this machine."""
    text = (TOP / "examples/demo.yaml").read_text() + "\nsubdomains: true\n"
    with started(text=text, host="localhost") as running:
        yield running


def test_lab_opens_on_a_host_of_its_own_with_the_panel(browser: Browser, facility: Facility) -> None:
    page = browser.new_page()
    page.set_default_timeout(300_000)
    page.goto(facility.url)
    page.get_by_label("Login name").fill("anna")
    page.get_by_label("Password").fill(facility.logins()["anna"]["password"])
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/services/specola/")
    page.get_by_role("button", name="Start").first.click()
    page.get_by_role("link", name="Open").click()
    page.wait_for_url(f"http://anna.localhost:{facility.port}/user/anna/lab**")
    page.locator(".jp-Launcher").wait_for()
    page.locator(".jp-SideBar.jp-mod-left li[data-id='specola-panel']").click()
    expect(page.locator("#specola-panel").get_by_text("Anna Rossi")).to_be_visible()
    cookies = page.context.cookies(f"http://anna.localhost:{facility.port}/hub/")
    assert "jupyterhub-session-id" not in {cookie["name"] for cookie in cookies if cookie["domain"] == "localhost"}
    page.close()
