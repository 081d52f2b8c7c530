"""`specola/gpu/relay/<kernel>`: the websocket that a kernel's worker opens, with a secret instead of a login."""

from __future__ import annotations

import asyncio
from typing import Any

from jupyter_server.auth.decorator import allow_unauthenticated
from specola_worker.kernel import wire
from tornado import web
from tornado.websocket import WebSocketHandler

from specola_lab.gpu.links import KernelLink, Registry


class DialledHandler(WebSocketHandler):
    """One end of one connection; knows nobody without the secret, and no page of a browser at all."""

    def initialize(self, registry: Registry) -> None:
        """Called by tornado for each request."""
        self.registry = registry
        self.kernel: KernelLink | None = None
        self._greeted = False
        self._patience: asyncio.TimerHandle | None = None

    @property
    def max_message_size(self) -> int:
        """Pieces are small: nobody makes this server hold more."""
        return wire.LARGEST_FRAME

    def check_origin(self, origin: str) -> bool:  # noqa: ARG002 - only browsers send one
        """No browser has business here."""
        return False

    @allow_unauthenticated
    async def get(self, kernel_id: str) -> None:
        """The handshake, for whom the kernel expects; one at a time."""
        link = self.registry.admit(kernel_id, self.request.headers.get("Authorization", ""))
        if link is None:
            raise web.HTTPError(403)
        self.kernel = link
        if link.opening is not None:
            link.opening.close()
        link.opening = self
        await super().get(kernel_id)

    def open(self, *_: str, **__: str) -> None:
        """Say who we are, and give the worker a moment to do the same."""
        self.set_nodelay(True)
        if self.kernel is not None:
            self._patience = asyncio.get_running_loop().call_later(wire.GREETING_SECONDS, self.close)
            self.write_message(self.kernel.greeting())

    def on_message(self, message: str | bytes) -> None:
        """A greeting first, then frames; who says anything else is hung up on."""
        if self.kernel is None:
            return
        try:
            if isinstance(message, bytes) and self._greeted:
                self.kernel.link.feed(self, message)
            elif isinstance(message, str) and not self._greeted:
                self._greeted = True
                self._welcome()
                self.kernel.greeted(self, message)
            else:
                raise wire.WireError("no greeting")  # noqa: TRY301 - one way to hang up
        except wire.WireError:
            self.close()

    def _welcome(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        if self.kernel is not None and self.kernel.opening is self:
            self.kernel.opening = None

    def on_close(self) -> None:
        """The link keeps what was not acknowledged."""
        self._welcome()
        if self.kernel is not None:
            self.kernel.link.lost(self)

    async def send(self, data: bytes | str) -> None:
        """Write one frame."""
        await self.write_message(data, binary=isinstance(data, bytes))

    def write_error(self, status_code: int, **_: Any) -> None:
        """A number says enough."""
        self.set_status(status_code)
        self.finish()
