"""A plain jupyter lab in a browser, beside a fake facility; what tests/lab/test_browser_*.py share."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from lab.fakeapi import FakeFacility
from looking import accessible, console, picture, theme
from playwright.sync_api import Browser, BrowserContext, Locator, Page
from running import free_port, wait_for

SLOW = 180_000
PANEL = "#specola-panel"


class Facility:
    """The fake, in a thread of its own."""

    def __init__(self, home: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.fake = FakeFacility(home, seconds_to_grow=0.2)
        self.url = self.wait(self.fake.start())

    def wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def do(self, act: Callable[..., Any], *given: Any) -> Any:
        async def done() -> Any:
            return act(*given)

        return self.wait(done())

    def renew(self) -> None:
        for name, cluster in self.fake.clusters.items():
            if cluster["status"] == "running":
                self.do(self.fake.end, name)
        self.fake.clusters.clear()
        self.fake.gpus.clear()
        self.fake.refuse.clear()
        self.do(self.fake.answers.set)

    def close(self) -> None:
        self.wait(self.fake.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(60)


@dataclass
class Lab:
    url: str
    facility: Facility


@pytest.fixture(scope="module")
def plain_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A plain jupyter lab with the labextension that is installed here."""
    place = tmp_path_factory.mktemp("lab")
    home = place / "home"
    home.mkdir()
    facility = Facility(home)
    port, token = free_port(), uuid.uuid4().hex
    told = {"HOME": str(home), "SPECOLA_API_URL": facility.url, "JUPYTERHUB_API_TOKEN": facility.fake.token}
    told |= {"SPECOLA_FACILITY": "cnaf", "SPECOLA_HOME_QUOTA_GIB": "5"}
    told |= {f"JUPYTER_{name}_DIR": str(place / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    told |= {f"JUPYTERLAB_{name}_DIR": str(place / name) for name in ("SETTINGS", "WORKSPACES")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.port={port}"]
    command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={home}"]
    with (place / "log").open("wb") as log:
        server = subprocess.Popen(command, env=os.environ | told, stdout=log, stderr=log, cwd=home)
    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/api"), 180, "jupyter lab")
        yield Lab(f"http://127.0.0.1:{port}/lab?token={token}", facility)
    finally:
        server.terminate()
        server.wait(120)
        facility.close()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def lab_context(browser: Browser, plain_lab: Lab) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1200, "height": 820}, reduced_motion="reduce")
    context.set_default_timeout(SLOW)
    page = context.new_page()
    page.goto(plain_lab.url)
    page.locator(".jp-Launcher").wait_for()
    page.close()
    yield context
    context.close()


@dataclass
class Seen:
    """A Lab that has just been opened, with its panel."""

    page: Page
    facility: Facility
    complaints: list[str]

    @property
    def fake(self) -> FakeFacility:
        return self.facility.fake

    @property
    def panel(self) -> Locator:
        return self.page.locator(PANEL)

    def open(self) -> Locator:
        self.page.locator(f".jp-SideBar.jp-mod-left li[data-id='{PANEL[1:]}']").click()
        self.panel.wait_for(state="visible")
        return self.panel

    def look(self, name: str) -> None:
        """Pictures in both themes, and axe on both."""
        for kind in ("Light", "Dark"):
            theme(self.page, kind)
            self.panel.evaluate("panel => { panel.scrollTop = 0; }")
            picture(self.page, f"panel-{name}-{kind.lower()}")
            accessible(self.page, PANEL)

    def cluster(self, workers: int = 2) -> dict[str, Any]:
        made: dict[str, Any] = self.facility.do(self.fake.create, {"workers": workers})
        wait_for(lambda: made["workers"]["running"] == workers, 60, "the fake's workers")
        return made


@pytest.fixture
def seen(plain_lab: Lab, lab_context: BrowserContext) -> Iterator[Seen]:
    page = lab_context.new_page()
    complaints = console(page)
    plain_lab.facility.renew()
    page.goto(f"{plain_lab.url.split('?')[0]}/workspaces/{uuid.uuid4().hex}")
    page.locator(".jp-Launcher").wait_for()
    yield Seen(page, plain_lab.facility, complaints)
    page.close()
    plain_lab.facility.renew()
