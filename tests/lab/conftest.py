"""A Jupyter server with our extension, beside a fake facility, in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from jupyter_server.serverapp import ServerApp
from lab.browsing import lab_context, plain_lab, seen  # noqa: F401 - fixtures of the browser tests
from lab.fakeapi import FakeFacility
from lab.gpurig import gpu, service  # noqa: F401 - fixtures of GPU kernels
from specola_lab.gpu.watcher import Watcher
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

LOGIN = "login-token"


class QuietServer(ServerApp):
    """Takes no signals from the test runner."""

    def init_signal(self) -> None:
        return None


@dataclass
class Lab:
    """The server, and a browser that is logged in."""

    app: Any
    url: str
    browser: aiohttp.ClientSession
    facility: FakeFacility
    home: Path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    for name in ("CONFIG", "DATA", "RUNTIME"):
        monkeypatch.setenv(f"JUPYTER_{name}_DIR", str(tmp_path / name))
    return place


@pytest_asyncio.fixture
async def facility(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeFacility]:
    fake = FakeFacility(home)
    monkeypatch.setenv("SPECOLA_API_URL", await fake.start())
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", fake.token)
    monkeypatch.setenv("SPECOLA_FACILITY", "cnaf")
    yield fake
    await fake.stop()


async def serve(home: Path) -> tuple[Any, str]:
    """Start a server in the running loop."""
    QuietServer.clear_instance()
    app = QuietServer.instance(
        port=0, ip="127.0.0.1", open_browser=False, root_dir=str(home), allow_root=True, log_level="WARN"
    )
    app.jpserver_extensions = {"specola_lab": True}
    app.initialize(argv=[f"--IdentityProvider.token={LOGIN}"], find_extensions=False, new_httpserver=False)
    sockets = bind_sockets(0, "127.0.0.1")
    app._http_server = HTTPServer(app.web_app)
    app.http_server.add_sockets(sockets)
    return app, f"http://127.0.0.1:{sockets[0].getsockname()[1]}/"


@pytest_asyncio.fixture
async def lab(facility: FakeFacility, home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    # what the facility is asked here is asked by the test; the watcher has tests of its own, with `gpu`
    monkeypatch.setattr(Watcher, "start", lambda _self: None)
    app, url = await serve(home)
    async with aiohttp.ClientSession(headers={"Authorization": f"token {LOGIN}"}) as browser:
        yield Lab(app, url, browser, facility, home)
    watcher = app.web_app.settings.get("specola_gpu_watcher")
    if watcher is not None:
        await watcher.stop()
    heartbeat = app.web_app.settings.get("specola_heartbeat")
    if heartbeat is not None:
        await heartbeat.stop()
        await heartbeat.facility.close()
    await app.cleanup_kernels()
    app.http_server.stop()
    await app.http_server.close_all_connections()
    QuietServer.clear_instance()
