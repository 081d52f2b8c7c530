"""The worker's one connection: it opens it, and opens it again, for as long as the grace lasts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClientConnection, WebSocketError, websocket_connect

from specola_worker.kernel import wire

CONNECT_SECONDS = 10.0
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0

log = logging.getLogger(__name__)


class RefusedError(Exception):
    """The server does not know this secret: it is wrong, used, or of a kernel that is gone."""


class Dialled:
    """One websocket as `wire.Link` wants it."""

    def __init__(self, link: wire.Link) -> None:
        self._link = link
        self._socket: Any = None
        self.greeting: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()

    async def open(self, url: str, secret: str) -> None:
        """Connect; RefusedError, OSError or a tornado error when that fails."""
        request = HTTPRequest(
            url,
            headers={"Authorization": f"{wire.SCHEME} {secret}"},
            connect_timeout=CONNECT_SECONDS,
            request_timeout=CONNECT_SECONDS,
        )
        try:
            self._socket = await websocket_connect(
                request, on_message_callback=self._heard, max_message_size=wire.LARGEST_FRAME
            )
        except HTTPClientError as error:
            if error.code == HTTPStatus.FORBIDDEN:
                raise RefusedError from error
            raise
        # a message of a kernel is small and waited for: 40 ms each without this
        self._socket.protocol.set_nodelay(True)

    def _heard(self, message: str | bytes | None) -> None:
        if message is None:
            self._ended()
        elif isinstance(message, str):
            if not self.greeting.done():
                self.greeting.set_result(message)
        else:
            try:
                self._link.feed(self, message)
            except wire.WireError as error:
                log.warning("the connection is closed: %s", error)
                self.close()

    def _ended(self) -> None:
        self.gone.set()
        if not self.greeting.done():
            self.greeting.set_exception(StreamClosedError())
            self.greeting.exception()  # nobody may be waiting any more
        self._link.lost(self)

    async def send(self, data: bytes | str) -> None:
        """Write one frame."""
        await self._socket.write_message(data, binary=isinstance(data, bytes))

    def close(self) -> None:
        """Hang up."""
        socket: WebSocketClientConnection | None = self._socket
        if socket is not None:
            socket.close()
        self._ended()


class Dialler:
    """Keeps a link connected to a server."""

    def __init__(self, link: wire.Link, url: str, secret: str, grace: float) -> None:
        self._link = link
        self._url = url
        self._secret = secret
        self._grace = grace

    async def run(self, greeted: Callable[[dict[str, Any]], None], **greeting: Any) -> str:
        """Connect again and again; why that ended: `refused` at the first time, or `grace`.

        The server's first greeting carries the session's secret, which is used from then on.
        """
        loop = asyncio.get_running_loop()
        since, pause, first = loop.time(), FIRST_PAUSE, True
        while True:
            try:
                said = await self._once(greeting, greeted)
            except RefusedError:
                if first:
                    return "refused"
            except (OSError, HTTPClientError, WebSocketError, StreamClosedError, wire.WireError) as error:
                log.info("no connection yet: %s", error)
            else:
                log.info("the connection was lost%s", "" if said else " before it stood")
                since, pause, first = loop.time(), FIRST_PAUSE, False
            if loop.time() - since > self._grace:
                return "grace"
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _once(self, greeting: dict[str, Any], greeted: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        connection = Dialled(self._link)
        try:
            await connection.open(self._url, self._secret)
            async with asyncio.timeout(wire.GREETING_SECONDS):
                text = await connection.greeting
                await connection.send(self._link.greeting(**greeting))
            said = self._link.greeted(connection, text)
            self._secret = str(said.get("session") or self._secret)
            greeted(said)
            await self._link.run(connection)
        finally:
            connection.close()
        return said
