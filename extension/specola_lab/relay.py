"""`specola/api/v1/…`: what the panel asks the facility goes through here, with this server's own token.

The browser never holds a token: it is known to this server by its login, and XSRF is checked by
jupyter-server as for every other request. What the token may do is listed scope by scope in the hub.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import aiohttp
from jupyter_server.auth.decorator import authorized
from tornado import web
from tornado.iostream import StreamClosedError

from specola_lab.base import SpecolaHandler
from specola_lab.facility import Facility

PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._~-]*(?:/[A-Za-z0-9_][A-Za-z0-9._~-]*)*")
"""No empty segment and none that starts with a dot."""

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
SENT = ("Accept", "Content-Type", "Idempotency-Key", "Last-Event-ID")
RETURNED = ("Content-Type", "Content-Encoding", "Cache-Control", "Retry-After", "Location")
REDIRECTS = range(300, 400)
NOT_ANSWERING = "The facility service does not answer"


class RelayHandler(SpecolaHandler):
    """Passes one request on, and streams the answer when it is a stream."""

    SUPPORTED_METHODS = (*METHODS, "OPTIONS")

    def initialize(self, facility: Facility) -> None:  # type: ignore[override]
        """Called by tornado for each request."""
        super().initialize()
        self.facility = facility
        self._upstream: aiohttp.ClientResponse | None = None
        self._left = False

    async def _relay(self, path: str) -> None:
        if not PATH.fullmatch(path):
            self.problem(404, "There is no such address")
            return
        if not self.facility.settings.is_complete:
            self.problem(503, "This server was not started by a facility", "SPECOLA_API_URL is not set.", "unavailable")
            return
        try:
            await self._pass_on(path)
        except StreamClosedError:
            self.log.debug("The browser left before the answer of %s was complete", path)
        except (aiohttp.ClientError, TimeoutError) as error:
            if not self._left:
                self._failed(path, error)

    async def _pass_on(self, path: str) -> None:
        headers = {name: self.request.headers[name] for name in SENT if name in self.request.headers}
        headers["X-Request-ID"] = self.request_id
        target = quote(path) + (f"?{self.request.query}" if self.request.query else "")
        endless = "text/event-stream" in headers.get("Accept", "")
        body = self.request.body or None
        async with self.facility.request(
            str(self.request.method), target, headers=headers, body=body, endless=endless
        ) as answer:
            self._upstream = answer
            if answer.status in REDIRECTS:
                self.problem(502, NOT_ANSWERING + " as expected", "It sent us elsewhere.", "unavailable")
                return
            self.set_status(answer.status)
            for name in RETURNED:
                if name in answer.headers:
                    self.set_header(name, answer.headers[name])
            if answer.content_type == "text/event-stream":
                await self._stream(answer)
            else:
                kind = answer.headers.get("Content-Type", "application/json")
                self.finish(await answer.read() or None, set_content_type=kind)

    async def _stream(self, answer: aiohttp.ClientResponse) -> None:
        self.set_header("X-Accel-Buffering", "no")
        await self.flush()
        async for chunk in answer.content.iter_any():
            self.write(chunk)
            await self.flush()
        self.finish(set_content_type="text/event-stream")

    def _failed(self, path: str, error: Exception) -> None:
        self.log.warning("[%s] relaying %s failed: %s", self.request_id, path, type(error).__name__)
        if self._finished:
            return
        if not self._headers_written:
            self.problem(503, NOT_ANSWERING, "It is being restarted, or the network is cut. Try again.", "unavailable")
        elif self.request.connection is not None:
            self.finish(set_content_type="text/event-stream")

    def on_connection_close(self) -> None:
        """The browser is gone: let the service know by hanging up, else each closed tab leaks a stream."""
        self._left = True
        if self._upstream is not None:
            self._upstream.close()

    @web.authenticated
    @authorized
    async def get(self, path: str) -> None:
        """Read."""
        await self._relay(path)

    @web.authenticated
    @authorized
    async def post(self, path: str) -> None:
        """Make or act."""
        await self._relay(path)

    put = patch = delete = post


def handlers(facility: Facility) -> list[tuple[str, Any, dict[str, Any]]]:
    """Addresses below the server's base URL."""
    return [(r"specola/api/v1/(.*)", RelayHandler, {"facility": facility})]
