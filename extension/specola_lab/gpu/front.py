"""The sockets that jupyter-server takes for a kernel's: in a directory that only this account can enter."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import zmq
import zmq.asyncio

PORTS = ("shell", "iopub", "stdin", "control", "hb")
LONGEST_PATH = 80
"""of the directory: the kernel of the system takes 107 bytes for the whole path of a socket"""
PAUSE = 0.005
STALLED_SECONDS = 10.0
PROBE = b"specola-probe"
"""identity of our own questions: answers to it do not leave this process"""

Came = Callable[[str, list[bytes]], Awaitable[None]]


def private_directory() -> Path:
    """A new directory (0700) with a short path."""
    for place in (os.environ.get("JUPYTER_RUNTIME_DIR", ""), tempfile.gettempdir()):
        if place and len(place) < LONGEST_PATH and Path(place).is_dir():
            return Path(tempfile.mkdtemp(prefix="sg-", dir=place))
    return Path(tempfile.mkdtemp(prefix="sg-", dir="/tmp"))


class Front:
    """Five sockets that outlive the kernels behind them; `came` gets what clients say."""

    def __init__(self, came: Came) -> None:
        self._came = came
        self.directory = private_directory()
        self.prefix = str(self.directory / "k")
        self._context = zmq.asyncio.Context()
        self._plain: zmq.Context[zmq.Socket[bytes]] = zmq.Context.shadow(self._context.underlying)
        self._routers = {name: self._context.socket(zmq.ROUTER) for name in PORTS if name != "iopub"}
        self._output = self._plain.socket(zmq.PUB)
        # a publisher drops what a reader has no room for; this one waits for its readers for a while
        self._output.setsockopt(zmq.XPUB_NODROP, 1)
        for one in (*self._routers.values(), self._output):
            one.linger = 0
        for router in self._routers.values():
            router.router_handover = True
        self.bind()
        self._probe: asyncio.Future[None] | None = None
        self._pumps = [asyncio.create_task(self._pump(name)) for name in self._routers]

    def _address(self, name: str) -> str:
        return f"ipc://{self.prefix}-{PORTS.index(name) + 1}"

    def bind(self) -> None:
        """Listen; again after jupyter-server has removed the files, as it does for each restart."""
        for name, one in (*self._routers.items(), ("iopub", self._output)):
            if one.LAST_ENDPOINT:
                one.unbind(self._address(name))
            one.bind(self._address(name))

    async def _pump(self, name: str) -> None:
        while True:
            await self._came(name, await self._routers[name].recv_multipart())

    async def deliver(self, name: str, parts: list[bytes]) -> None:
        """Hand what the kernel said to those who listen."""
        if name == "iopub":
            await self._publish(parts)
        elif parts[0] == PROBE:
            if self._probe is not None and not self._probe.done():
                self._probe.set_result(None)
        else:
            await self._routers[name].send_multipart(parts)

    async def _publish(self, parts: list[bytes]) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + STALLED_SECONDS
        while True:
            try:
                self._output.send_multipart(parts, zmq.NOBLOCK)
            except zmq.Again:
                if loop.time() < until:
                    await asyncio.sleep(PAUSE)
                    continue
                # one that does not read at all loses messages, as with every publisher; the others do not wait for it
                self._output.setsockopt(zmq.XPUB_NODROP, 0)
                self._output.send_multipart(parts, zmq.NOBLOCK)
                self._output.setsockopt(zmq.XPUB_NODROP, 1)
            return

    async def answered(self, ask: Callable[[], Awaitable[None]], seconds: float) -> None:
        """Send a question of our own, whose identity is `PROBE`, and wait for its answer; TimeoutError."""
        self._probe = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(seconds):
            await ask()
            await self._probe

    async def close(self) -> None:
        """Remove everything."""
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        self._output.close()
        self._context.destroy(linger=0)
        shutil.rmtree(self.directory, ignore_errors=True)
