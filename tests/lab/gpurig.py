"""A real Jupyter server with GPU kernels on real workers, beside the fake service."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from jupyter_server.serverapp import ServerApp
from lab.fakeservice import TOKEN, FakeGpu
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

PATIENCE = 90.0
LOGIN = "login-token"


class QuietServer(ServerApp):
    """Takes no signals from the test runner."""

    def init_signal(self) -> None:
        return None


@dataclass
class Gpu:
    """The server, a browser that is logged in, and the service."""

    app: ServerApp
    url: str
    browser: aiohttp.ClientSession
    fake: FakeGpu
    home: Path
    clients: list[Any] = field(default_factory=list)

    @property
    def half(self) -> Any:
        return self.app.web_app.settings["specola_gpu"]

    async def start(self, **body: Any) -> str:
        """POST /api/kernels; the id of a kernel that may still be pending."""
        async with self.browser.post(self.url + "api/kernels", json={"name": "specola-gpu", **body}) as answer:
            assert answer.status == 201, await answer.text()
            return str((await answer.json())["id"])

    async def ready(self, name: str) -> Client:
        manager = self.app.kernel_manager.get_kernel(name)
        async with asyncio.timeout(PATIENCE):
            await manager.ready
        client = manager.client()
        client.start_channels()
        self.clients.append(client)
        await client.wait_for_ready(timeout=PATIENCE)
        return Client(client, manager, name)

    async def kernel(self) -> Client:
        """A lease, and a kernel on it that is ready."""
        self.fake.grant()
        return await self.ready(await self.start())

    async def get(self, path: str) -> Any:
        async with self.browser.get(self.url + path) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def kernels(self) -> dict[str, dict[str, Any]]:
        return {one["kernel_id"]: one for one in (await self.get("specola/gpu/kernels"))["items"]}


@dataclass
class Client:
    """A kernel, as a notebook uses it."""

    client: Any
    manager: Any
    id: str

    def send(self, code: str) -> str:
        return str(self.client.execute(code))

    async def finish(self, message: str, seconds: float = PATIENCE) -> str:
        """What a cell printed or showed; an error in it is one here."""
        output: list[str] = []
        trace: list[str] = []
        async with asyncio.timeout(seconds):
            while True:
                said = await self.client.get_iopub_msg(timeout=seconds)
                if said["parent_header"].get("msg_id") != message:
                    continue
                content = said["content"]
                if said["msg_type"] == "stream":
                    output.append(content["text"])
                elif said["msg_type"] in {"execute_result", "display_data"}:
                    output.append(content["data"]["text/plain"])
                elif said["msg_type"] == "error":
                    trace = content["traceback"]
                elif said["msg_type"] == "status" and content["execution_state"] == "idle":
                    if trace:
                        raise AssertionError("\n".join([*output, *trace]))
                    return "".join(output)

    async def begin(self, code: str) -> str:
        """Send a cell and wait until it runs; it prints a word first."""
        message = self.send("print('begun', flush=True)\n" + code)
        while True:
            said = await self.client.get_iopub_msg(timeout=PATIENCE)
            if said["parent_header"].get("msg_id") == message and said["msg_type"] == "stream":
                return message

    async def run(self, code: str, seconds: float = PATIENCE) -> str:
        return await self.finish(self.send(code), seconds)


async def until(true: Any, seconds: float = PATIENCE, what: str = "the condition") -> Any:
    limit = time.monotonic() + seconds
    while True:
        value = true()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < limit, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.02)


async def serve(home: Path, base_url: str = "/user/anna/") -> tuple[Any, str]:
    """Start a server in the running loop, as the facility configures it."""
    QuietServer.clear_instance()
    app = QuietServer.instance(
        port=0, ip="127.0.0.1", open_browser=False, root_dir=str(home), allow_root=True, log_level="WARN"
    )
    app.base_url = base_url
    app.jpserver_extensions = {"specola_lab": True}
    words = [f"--IdentityProvider.token={LOGIN}", "--MappingKernelManager.use_pending_kernels=True"]
    words += ["--KernelManager.transport=ipc"]
    app.initialize(argv=words, find_extensions=False, new_httpserver=False)
    sockets = bind_sockets(0, "127.0.0.1")
    app._http_server = HTTPServer(app.web_app)
    app.http_server.add_sockets(sockets)
    return app, f"http://127.0.0.1:{sockets[0].getsockname()[1]}{base_url}"


@contextlib.asynccontextmanager
async def running(fake: FakeGpu, home: Path) -> AsyncIterator[Gpu]:
    """The server, for as long as a test takes; workers reach it through a wire that can be cut."""
    app, url = await serve(home)
    fake.wire = Cutter(int(url.split(":")[2].split("/")[0]))
    port = await fake.wire.start()
    fake.through = lambda told: told.replace(f":{fake.port}/", f":{port}/")
    async with aiohttp.ClientSession(headers={"Authorization": f"token {LOGIN}"}) as browser:
        rig = Gpu(app, url, browser, fake, home)
        try:
            yield rig
        finally:
            for client in rig.clients:
                client.stop_channels()
            await shut_down(app)
            await fake.wire.stop()


async def shut_down(app: Any) -> None:
    """As jupyter-server ends, without its loop."""
    # jupyter_client raises this when it ends a kernel that is being ended
    with contextlib.suppress(asyncio.InvalidStateError):
        await app.cleanup_kernels()
    watcher = app.web_app.settings.get("specola_gpu_watcher")
    if watcher is not None:
        await watcher.stop()
    heartbeat = app.web_app.settings.get("specola_heartbeat")
    if heartbeat is not None:
        await heartbeat.stop()
        await heartbeat.facility.close()
    app.http_server.stop()
    await app.http_server.close_all_connections()
    # when it is collected its sockets are forgotten before they are closed, and that waits for ever
    app.kernel_manager.context.destroy(linger=0)
    QuietServer.clear_instance()


class Cutter:
    """A TCP proxy between worker and server: cut at once, after so many bytes one way, or for a while."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.open = True
        self.connections = 0
        self.budget: dict[str, int] = {}
        """way (`up` from the worker, `down` to it) → bytes after which the wire is cut"""
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, address: str = "127.0.0.1") -> int:
        self._server = await asyncio.start_server(self._serve, address, 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.open:
            writer.close()
            return
        self.connections += 1
        there, onward = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers |= {writer, onward}
        await asyncio.gather(self._pass(reader, onward, "up"), self._pass(there, writer, "down"))
        self._writers -= {writer, onward}

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(64 * 1024):
                if way in self.budget:
                    self.budget[way] -= len(data)
                    if self.budget[way] < 0:
                        del self.budget[way]
                        writer.write(data[: len(data) // 2])
                        self.cut()
                        return
                writer.write(data)
                await writer.drain()
        writer.close()

    def cut(self) -> None:
        """Every connection, without a word."""
        for writer in self._writers:
            writer.transport.abort()

    async def stop(self) -> None:
        self._server.close()
        self.cut()
        await self._server.wait_closed()


@pytest_asyncio.fixture
async def service(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeGpu]:
    fake = FakeGpu(tmp_path)
    monkeypatch.setenv("SPECOLA_API_URL", await fake.start())
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", TOKEN)
    monkeypatch.delenv("JUPYTERHUB_PUBLIC_URL", raising=False)
    yield fake
    await fake.stop()
    fake.end_workers()


@pytest_asyncio.fixture
async def gpu(service: FakeGpu, home: Path) -> AsyncIterator[Gpu]:
    async with running(service, home) as rig:
        yield rig


__all__ = ["TOKEN", "Client", "Cutter", "Gpu", "gpu", "running", "serve", "service", "until"]
