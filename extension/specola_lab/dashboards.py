"""`specola/clusters/<name>/…`: live workers and the Dask dashboard, from the scheduler's unix socket."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import aiohttp
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import JupyterHandler
from tornado import web
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from specola_lab import schedulers
from specola_lab.base import SpecolaHandler

NOT_HERE = "The scheduler of this cluster does not answer here"
NOT_HERE_DETAIL = "It may still be starting, or it has stopped."
SENT = ("Accept", "Accept-Encoding", "Accept-Language", "If-None-Match", "If-Modified-Since")
RETURNED = ("Content-Type", "Content-Encoding", "Cache-Control", "ETag", "Last-Modified", "Location", "Vary")
LARGEST_MESSAGE = 64 * 1024**2


class WorkersHandler(SpecolaHandler):
    """Passes on what the scheduler says of its workers."""

    def initialize(self, home: Path) -> None:  # type: ignore[override]
        """Called by tornado for each request."""
        super().initialize()
        self.home = home

    @web.authenticated
    @authorized
    async def get(self, cluster: str) -> None:
        """The workers of one cluster, and their totals."""
        socket = schedulers.socket_of(self.home, cluster)
        if socket is None:
            self.problem(404, NOT_HERE, NOT_HERE_DETAIL)
            return
        try:
            async with schedulers.session(socket) as client, client.get("http://scheduler/specola/workers") as answer:
                answer.raise_for_status()
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            self.problem(503, NOT_HERE, NOT_HERE_DETAIL, "unavailable")
        else:
            self.finish(body)


class DashboardHandler(WebSocketHandler, JupyterHandler):
    """A reverse proxy that only reads (GET and websocket) and passes neither cookies nor tokens on."""

    SUPPORTED_METHODS = ("GET", "HEAD")

    def initialize(self, home: Path) -> None:
        """Called by tornado for each request."""
        self.home = home
        self._clients = AsyncExitStack()
        self._upstream: aiohttp.ClientWebSocketResponse | None = None
        self._reader: asyncio.Task[None] | None = None

    async def prepare(self) -> None:
        """Nobody without a login, websockets included."""
        await cast("Any", super().prepare())
        if self.current_user is None:
            raise web.HTTPError(403)

    def _socket(self, cluster: str) -> Path:
        socket = schedulers.socket_of(self.home, cluster)
        if socket is None:
            raise web.HTTPError(404, reason=NOT_HERE)
        return socket

    def _target(self, path: str) -> str:
        return "/" + quote(path.lstrip("/")) + (f"?{self.request.query}" if self.request.query else "")

    async def get(self, cluster: str, path: str) -> None:
        """A page, or the websocket that keeps it alive."""
        socket = self._socket(cluster)
        if self.request.headers.get("Upgrade", "").lower() == "websocket":
            await self._connect(socket, path)
            await super().get(cluster, path)
        else:
            await self._page(socket, path)

    async def head(self, cluster: str, path: str) -> None:
        """As GET, without the body."""
        await self._page(self._socket(cluster), path)

    async def _page(self, socket: Path, path: str) -> None:
        headers = {name: self.request.headers[name] for name in SENT if name in self.request.headers}
        try:
            async with (
                schedulers.session(socket, 60) as client,
                client.request(
                    str(self.request.method),
                    "http://scheduler" + self._target(path),
                    headers=headers,
                    allow_redirects=False,
                ) as answer,
            ):
                self.set_status(answer.status)
                for name in RETURNED:
                    if name in answer.headers:
                        self.set_header(name, answer.headers[name])
                if "Location" in answer.headers:
                    self._keep_below(answer.headers["Location"])
                async for chunk in answer.content.iter_any():
                    self.write(chunk)
                    await self.flush()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if not self._headers_written:
                raise web.HTTPError(503, reason=NOT_HERE) from error

    def _keep_below(self, location: str) -> None:
        """A redirect to /status must stay below this address."""
        if location.startswith("/"):
            base = self.request.path.split("/dashboard/", 1)[0]
            location = f"{base}/dashboard{location}"
        self.set_header("Location", location)

    async def _connect(self, socket: Path, path: str) -> None:
        asked = [part.strip() for part in self.request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        try:
            client = await self._clients.enter_async_context(schedulers.session(socket, None))
            self._upstream = await client.ws_connect(
                "ws://scheduler" + self._target(path),
                protocols=[name for name in asked if name],
                max_msg_size=LARGEST_MESSAGE,
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            await self._clients.aclose()
            raise web.HTTPError(503, reason=NOT_HERE) from error

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:  # noqa: ARG002 - chosen by the scheduler
        """What the scheduler chose: bokeh carries its session token as the second one asked for."""
        return self._upstream.protocol if self._upstream is not None else None

    def check_origin(self, origin: str | None = None) -> bool:
        """Only pages of this server."""
        return bool(JupyterHandler.check_origin(self, origin))

    async def open(self, *_: str) -> None:
        """Both ends stand: pump what the scheduler sends."""
        self._reader = asyncio.create_task(self._pump())

    async def _pump(self) -> None:
        if self._upstream is None:
            return
        try:
            async for message in self._upstream:
                if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                    await self.write_message(message.data, binary=message.type is aiohttp.WSMsgType.BINARY)
        except WebSocketClosedError:
            self.log.debug("The browser closed a dashboard")
        self.close()

    async def on_message(self, message: str | bytes) -> None:
        """Pump what the browser sends."""
        if self._upstream is None or self._upstream.closed:
            self.close()
        elif isinstance(message, bytes):
            await self._upstream.send_bytes(message)
        else:
            await self._upstream.send_str(message)

    def on_close(self) -> None:
        """Close the other end too."""
        self._closing = asyncio.ensure_future(self._clients.aclose())
        if self._reader is not None:
            self._reader.cancel()


def handlers(home: Path) -> list[tuple[str, Any, dict[str, Any]]]:
    """Addresses below the server's base URL."""
    return [
        (r"specola/clusters/([^/]+)/workers", WorkersHandler, {"home": home}),
        (r"specola/clusters/([^/]+)/dashboard/(.*)", DashboardHandler, {"home": home}),
    ]
