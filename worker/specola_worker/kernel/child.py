"""One run of the kernel, seen from the worker: its process, its sockets, and the thread beside it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Any

log = logging.getLogger(__name__)

LARGEST = 64 * 1024
Asked = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Nursery:
    """The worker's end of the zygote."""

    def __init__(self, zygote: socket.socket, ended: Callable[[int, int], None]) -> None:
        self._zygote = zygote
        self._ended = ended
        self._started: asyncio.Future[int] | None = None
        self.gone = asyncio.Event()
        zygote.setblocking(False)  # noqa: FBT003 - positional in the standard library
        asyncio.get_running_loop().add_reader(zygote, self._read)

    def _read(self) -> None:
        data = self._zygote.recv(LARGEST)
        if not data:
            asyncio.get_running_loop().remove_reader(self._zygote)
            self.gone.set()
            return
        said = json.loads(data)
        if "ended" in said:
            self._ended(said["ended"], said["code"])
        elif self._started is not None and not self._started.done():
            self._started.set_result(said["started"])

    async def start(self, order: dict[str, Any], state: socket.socket) -> int:
        """Fork a kernel; its pid."""
        self._started = asyncio.get_running_loop().create_future()
        socket.send_fds(self._zygote, [json.dumps(order).encode()], [state.fileno()])
        return await self._started

    def close(self) -> None:
        """End the zygote, and with it every kernel."""
        with contextlib.suppress(OSError):
            asyncio.get_running_loop().remove_reader(self._zygote)
        self._zygote.close()


class Beside:
    """The conversation with the thread beside the kernel (`state.py`)."""

    def __init__(self, asked: Asked, hooks: Callable[[int], None]) -> None:
        self._asked = asked
        self._hooks = hooks
        self._numbers = 0
        self._open: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.theirs: socket.socket

    async def open(self) -> socket.socket:
        """Make the pair of sockets; the kernel's end."""
        ours, theirs = socket.socketpair()
        reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=1024**3)
        self._begin(self._serve(reader))
        return theirs

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            async for line in reader:
                said = json.loads(line)
                if "answer" in said:
                    waiting = self._open.get(said["answer"])
                    if waiting is not None and not waiting.done():
                        waiting.set_result(said)
                elif "tell" in said:
                    self._hooks(said["count"])
                else:
                    self._begin(self._reply(said))
        for waiting in self._open.values():
            if not waiting.done():
                waiting.set_exception(ConnectionResetError())

    async def _reply(self, said: dict[str, Any]) -> None:
        await self._say({**await self._asked(said), "reply": said["id"]})

    async def _say(self, message: dict[str, Any]) -> None:
        if self._writer is not None:
            self._writer.write(json.dumps(message).encode() + b"\n")
            await self._writer.drain()

    async def ask(self, do: str, seconds: float, **fields: Any) -> dict[str, Any]:
        """Ask the thread; TimeoutError, or ConnectionResetError when the kernel ends."""
        self._numbers += 1
        number = self._numbers
        answer = self._open[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                await self._say({"do": do, "id": number, **fields})
                return await answer
        finally:
            del self._open[number]

    async def close(self) -> None:
        """Let go; the kernel ends when it notices."""
        if self._writer is not None:
            self._writer.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def send_signal(pid: int, signum: int) -> None:
    """Send a signal to a kernel and what it started, as to a local kernel."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signum)


KILL = signal.SIGKILL
