"""Two people and one slice: the second waits with a place and a range, the first goes idle, is warned and saved."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from looking import accessible, console, picture, theme
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect
from running import Facility, started, wait_for

pytestmark = pytest.mark.journey

SLOW = 120_000
CARD = "20 GB on A100-40GB"
# every notice is as long as in a real facility but for its seconds
FACILITY = """
name: two-people
identity:
  kind: embedded
  people:
    - {name: anna, full_name: Anna Rossi, groups: [cms]}
    - {name: luca, full_name: Luca Ferrari, groups: [cms]}
    - {name: marco, full_name: Marco Bianchi, groups: [cms]}
    - {name: dora, full_name: Dora Conti, groups: [operators]}
groups:
  cms: {}
  operators: {roles: [user, admin]}
gpu:
  pools:
    a100: {actuator: simulated, model: A100-40GB, cards: 1}
  hold: 30 min
  idle_after: 20 s
  youngest: 20 s
  notice: 30 s
"""
PREPARE = """
import pathlib
history = [0.9, 0.4, 0.2]
stream = (batch for batch in history)
from specola_lab import gpu
def save(directory):
    (directory / "weights").write_text("epoch 7")
def load(directory):
    global weights
    weights = (directory / "weights").read_text()
gpu.checkpoint(save, load)
print("prepared")
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Facility]:
    with started(text=FACILITY) as running:
        yield running


@dataclass
class Person:
    """Somebody in front of a browser."""

    name: str
    page: Page
    facility: Facility
    complaints: list[str]

    @property
    def section(self) -> Locator:
        """The GPU section of the panel."""
        return self.page.locator("#specola-section-gpu")

    def card(self, state: str) -> Locator:
        return self.section.get_by_role("article", name=f"{CARD}, {state}")

    def log_in(self) -> None:
        """As far as the start page."""
        page = self.page
        page.goto(self.facility.url)
        page.get_by_label("Login name").fill(self.name)
        page.get_by_label("Password").fill(self.facility.logins()[self.name]["password"])
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/services/specola/")

    def begin(self) -> None:
        """Log in, start the server, open Lab with the panel."""
        page = self.page
        self.log_in()
        self.facility.login(self.name).start_server()
        page.goto(f"{self.facility.url}user/{self.name}/lab/workspaces/gpu")
        page.locator(".jp-Launcher").wait_for()
        page.locator(".jp-SideBar.jp-mod-left li[data-id='specola-panel']").click()
        self.section.get_by_label("GPUs of a100").wait_for()
        for other in ("Identity", "Scale-out"):
            page.locator("#specola-panel").get_by_role("button", name=other).first.click()

    def notebook(self, kernel: str = "Python 3 (ipykernel)") -> None:
        """A new notebook from the launcher."""
        self.page.get_by_role("button", name=kernel).first.click()
        self.page.get_by_text(f"{kernel} | Idle").wait_for()

    def run(self, code: str) -> Locator:
        """Run code in the last cell of the notebook in front; its output."""
        notebook = self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
        cells = notebook.locator(".jp-CodeCell")
        cells.last.locator(".cm-content").fill(code.strip())
        index = cells.count() - 1
        self.page.keyboard.press("Shift+Enter")
        return cells.nth(index).locator(".jp-OutputArea-output").last

    def ask(self, then: str) -> None:
        """Ask for 20 GB for an hour in the panel's form."""
        self.section.get_by_label("I need").focus()
        while "20 GB" not in (self.section.get_by_label("I need").get_attribute("aria-valuetext") or ""):
            self.page.keyboard.press("ArrowRight")
        self.section.get_by_label("when granted").select_option(label=then)
        self.section.get_by_role("button", name="Ask", exact=True).click()


def person(browser: Browser, facility: Facility, name: str) -> tuple[BrowserContext, Person]:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(SLOW)
    page = context.new_page()
    return context, Person(name, page, facility, console(page))


@pytest.fixture(scope="module")
def anna(browser: Browser, place: Facility) -> Iterator[Person]:
    context, somebody = person(browser, place, "anna")
    yield somebody
    context.close()


@pytest.fixture(scope="module")
def luca(browser: Browser, place: Facility) -> Iterator[Person]:
    context, somebody = person(browser, place, "luca")
    yield somebody
    context.close()


class TestTwoPeople:
    """The steps build on each other."""

    def test_one_slice_is_left(self, place: Facility, anna: Person) -> None:
        marco = place.login("marco")
        asked = marco.api("POST", "gpu/requests", json={"gib": 20, "minutes": 60})
        assert asked.status_code == 202, asked.text
        wait_for(lambda: marco.api("GET", "gpu/leases").json()["items"][0]["state"] == "offered", 60, "Marco's slice")
        anna.begin()
        expect(anna.section.get_by_role("img", name=re.compile("GPU 0: .*in use"))).to_be_visible()
        expect(anna.section.get_by_text("simulated").first).to_be_visible()
        picture(anna.page, "gpu-1-one-slice-left")
        accessible(anna.page, "#specola-section-gpu")

    def test_anna_works_on_a_cpu_and_asks_for_a_gpu(self, anna: Person) -> None:
        anna.notebook()
        expect(anna.run("x = 42; open('mine.txt', 'w').write('kept'); print('written')")).to_have_text("written")
        anna.ask("hold it 30 min")
        expect(anna.card("offered")).to_contain_text("It is yours: held until")
        expect(anna.page.locator(".Toastify__toast")).to_contain_text("Your GPU is there")
        picture(anna.page, "gpu-2-offered")

    def test_her_gpu_kernel_sees_its_slice(self, anna: Person) -> None:
        anna.card("offered").get_by_role("button", name="New GPU notebook").click()
        anna.page.get_by_text("Python 3 (GPU) | Idle").wait_for()
        expect(anna.run("import os; print(os.environ['CUDA_VISIBLE_DEVICES'])")).to_contain_text("MIG-")
        expect(anna.run(PREPARE)).to_have_text("prepared")
        expect(anna.card("active")).to_be_visible()
        expect(anna.page.locator(".specola-Status").first).to_contain_text("GPU 20 GB (simulated)")
        picture(anna.page, "gpu-3-at-work")
        accessible(anna.page, "#specola-section-gpu")

    def test_luca_sees_his_place_and_a_range(self, luca: Person) -> None:
        luca.begin()
        expect(luca.section.get_by_role("img", name=re.compile("GPU 0: .*free")).first).to_be_hidden()
        luca.ask("start a kernel")
        waiting = luca.section.get_by_role("article", name="Waiting for 20 GB for 1 h")
        expect(waiting).to_contain_text("position 1")
        expect(waiting).to_contain_text(re.compile("min|minute"))
        picture(luca.page, "gpu-4-luca-waits")
        accessible(luca.page, "#specola-section-gpu")

    def test_anna_is_warned_in_lab(self, anna: Person) -> None:
        toast = anna.page.locator(".Toastify__toast").filter(has_text="Somebody waits for a slice and yours is idle")
        toast.wait_for()
        alert = anna.card("expiring").get_by_role("alert")
        expect(alert).to_contain_text("Your checkpoint runs first")
        toast.get_by_role("button", name="Keep it").hover()
        picture(anna.page, "gpu-5-anna-is-warned")

    def test_lucas_kernel_starts_by_itself(self, luca: Person) -> None:
        expect(luca.card("active")).to_contain_text("A GPU kernel runs, and no notebook uses it.")
        picture(luca.page, "gpu-6-lucas-kernel-runs")
        luca.card("active").get_by_role("button", name="New GPU notebook").click()
        luca.page.get_by_text("Python 3 (GPU) | Idle").wait_for()
        expect(luca.run("import os; print(os.environ['CUDA_VISIBLE_DEVICES'])")).to_contain_text("MIG-")
        expect(luca.card("active")).to_contain_text(".ipynb")
        picture(luca.page, "gpu-7-luca-at-work")

    def test_anna_is_told_what_was_saved(self, place: Facility, anna: Person) -> None:
        ended = anna.card("ended")
        expect(ended).to_contain_text("taken back while idle, for somebody who waited")
        expect(ended).to_contain_text("1 checkpoint run")
        expect(ended).to_contain_text("history")
        ended.get_by_text("Not saved:").click()
        expect(ended).to_contain_text("stream")
        picture(anna.page, "gpu-8-what-was-saved")
        accessible(anna.page, "#specola-section-gpu")
        found = list((place.home_of("anna") / ".local/share/specola/snapshots").rglob("weights"))
        assert [one.read_text() for one in found] == ["epoch 7"]

    def test_her_cpu_kernel_and_files_are_untouched(self, place: Facility, anna: Person) -> None:
        anna.page.locator(".lm-TabBar-tab", has_text="Untitled.ipynb").first.click()
        anna.page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        expect(anna.run("print(x, open('mine.txt').read())")).to_have_text("42 kept")
        assert place.login("anna").server_ready()

    def test_she_asks_again_and_gets_her_state_back(self, anna: Person, luca: Person) -> None:
        anna.card("ended").get_by_role("button", name="Ask again").click()
        expect(anna.section.get_by_role("article", name="Waiting for 20 GB for 1 h")).to_be_visible()
        luca.card("active").get_by_role("button", name="Give back").click()
        luca.page.get_by_role("dialog").get_by_role("button", name="Give back").click()
        expect(anna.card("offered")).to_be_visible()
        anna.card("offered").get_by_role("button", name="New GPU notebook").click()
        anna.page.get_by_text("Python 3 (GPU) | Idle").wait_for()
        expect(anna.card("active")).to_contain_text("Your last GPU kernel was saved at")
        anna.card("active").get_by_role("button", name="Restore").click()
        notebook = anna.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
        expect(notebook.get_by_text("Restored 6 variables")).to_be_visible()
        expect(anna.card("active").get_by_role("button", name="Restore")).to_be_hidden()
        expect(anna.run("print(history, weights)")).to_have_text("[0.9, 0.4, 0.2] epoch 7")
        picture(anna.page, "gpu-9-restored")

    def test_dark_theme(self, anna: Person) -> None:
        theme(anna.page, "Dark")
        picture(anna.page, "gpu-10-dark")
        accessible(anna.page, "#specola-section-gpu")

    def test_nothing_was_wrong_in_the_console(self, anna: Person, luca: Person) -> None:
        assert anna.complaints == []
        assert luca.complaints == []


class TestStartPage:
    """The same two people, on the start page; and whoever operates the facility."""

    def test_an_operator_sees_who_holds_what(self, browser: Browser, place: Facility) -> None:
        context, dora = person(browser, place, "dora")
        dora.log_in()
        dora.page.get_by_role("link", name="GPUs").click()
        held = dora.page.get_by_role("region", name="Held")
        expect(held.get_by_role("row", name=re.compile("^anna cms 3g a100 #0"))).to_be_visible()
        expect(held.get_by_role("row", name=re.compile("^marco cms 3g a100 #0"))).to_be_visible()
        picture(dora.page, "gpu-operator")
        accessible(dora.page)
        dora.page.get_by_role("button", name="Drain: a100 GPU 0").click()
        expect(dora.page.get_by_role("img", name=re.compile("GPU 0: drained"))).to_be_visible()
        picture(dora.page, "gpu-operator-drained")
        dora.page.get_by_role("button", name="Use again: a100 GPU 0").click()
        expect(dora.page.get_by_role("button", name="Drain: a100 GPU 0")).to_be_visible()
        assert dora.complaints == []
        context.close()

    def test_luca_asks_for_a_server_with_a_slice_and_waits(self, place: Facility, luca: Person) -> None:
        place.login("luca").stop_server()
        luca.page.goto(f"{place.url}services/specola/")
        luca.page.get_by_label("GPU", exact=True).select_option(label="20 GB")
        expect(luca.page.locator(".advice")).to_contain_text("3g.20gb")
        picture(luca.page, "gpu-start-choice")
        accessible(luca.page)
        luca.page.get_by_role("button", name="Start my server").click()
        expect(luca.page.get_by_text("Waiting for 20 GB for 1 h")).to_be_visible()
        expect(luca.page.get_by_text(re.compile("^Position 1"))).to_be_visible()
        picture(luca.page, "gpu-start-waits")
        accessible(luca.page)

    def test_it_starts_by_itself_when_the_slice_is_there(self, place: Facility, luca: Person) -> None:
        marco = place.login("marco")
        (lease,) = (one for one in marco.api("GET", "gpu/leases").json()["items"] if one["state"] == "offered")
        assert marco.api("DELETE", f"gpu/leases/{lease['id']}?token={lease['token']}").status_code == 202
        expect(luca.page.get_by_role("link", name="Open")).to_be_visible()
        expect(luca.page.locator("#gpus")).to_contain_text("your server")
        picture(luca.page, "gpu-start-ready")
        accessible(luca.page)
        kernel = place.login("luca").kernel()
        assert kernel.run("import os; print(os.environ['CUDA_VISIBLE_DEVICES'])").startswith("MIG-")

    def test_given_back_there_the_server_ends_with_it(self, place: Facility, luca: Person) -> None:
        luca.page.locator("#gpus").get_by_role("button", name="Give back").click()
        expect(luca.page.get_by_role("button", name="Start my server")).to_be_visible()
        assert not place.login("luca").server_ready()
