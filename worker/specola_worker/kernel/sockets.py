"""The worker's ends of a kernel's sockets, in a directory that only its account can enter."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import zmq
import zmq.asyncio

from specola_worker.kernel.order import PORTS

IDENTITY = b"specola-worker"
"""the same on all channels: a kernel asks for input where the cell came from"""
KINDS = {"shell": zmq.DEALER, "stdin": zmq.DEALER, "control": zmq.DEALER, "hb": zmq.DEALER, "iopub": zmq.SUB}
AHEAD = 64
"""messages read before the last one could be sent: the rest waits in the kernel"""

QUIET_SECONDS = 0.15

Came = Callable[[str, list[bytes]], Awaitable[None]]


class Sockets:
    """Five sockets of one kernel; `came` gets what the kernel says."""

    def __init__(self, context: zmq.asyncio.Context, prefix: str, came: Came) -> None:
        self._came = came
        self._sockets: dict[str, zmq.asyncio.Socket] = {}
        self._quiet_since: float | None = None
        for channel, kind in KINDS.items():
            one = self._sockets[channel] = context.socket(kind)
            one.linger = 0
            one.identity = IDENTITY
            if channel == "iopub":
                one.rcvhwm = AHEAD
                one.subscribe(b"")
            one.connect(f"ipc://{prefix}-{PORTS.index(channel) + 1}")
        self._pumps = [asyncio.create_task(self._pump(channel)) for channel in KINDS]

    async def _pump(self, channel: str) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if channel == "iopub":
                self._quiet_since = loop.time()
            message = await self._sockets[channel].recv_multipart()
            if channel == "iopub":
                self._quiet_since = None
            await self._came(channel, message)

    async def send(self, channel: str, parts: list[bytes]) -> None:
        """Hand a message to the kernel."""
        with contextlib.suppress(zmq.ZMQError):
            await self._sockets[channel].send_multipart(parts)

    async def drain(self, seconds: float) -> None:
        """Let the last words of a kernel that has ended through, for so long at most."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while loop.time() < until and not self._quiet(loop.time()):  # noqa: ASYNC110 - silence sets no event
            await asyncio.sleep(QUIET_SECONDS / 3)

    def _quiet(self, now: float) -> bool:
        return self._quiet_since is not None and now - self._quiet_since >= QUIET_SECONDS

    async def close(self) -> None:
        """Let go of the kernel."""
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        for one in self._sockets.values():
            one.close()
