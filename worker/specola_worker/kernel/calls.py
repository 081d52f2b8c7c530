"""Questions and answers over the channel `own`, used at both ends.

A message is a JSON object and, for some, byte strings after it. `{"do": …, "id": n, …}` wants the answer
`{"answer": n, …}` or `{"answer": n, "error": "a sentence"}`; without an `id` it is only told. What is told is dealt
with in its order, one after the other; questions are answered side by side.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

log = logging.getLogger(__name__)

Fields = dict[str, Any]
Handler = Callable[[Fields, list[bytes]], Awaitable[Fields | None]]
Send = Callable[[Sequence[bytes]], Awaitable[None]]


class CallError(Exception):
    """The other end could not do what it was asked, and says why."""


class Calls:
    """One end of the conversation."""

    def __init__(self, send: Send, handlers: Mapping[str, Handler]) -> None:
        self._send = send
        self._handlers = handlers
        self._numbers = itertools.count(1)
        self._open: dict[int, asyncio.Future[Fields]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, do: str, *blobs: bytes, seconds: float | None = None, **fields: Any) -> Fields:
        """Ask and wait for the answer; CallError when it is an error, TimeoutError when none comes in time."""
        number = next(self._numbers)
        answer = self._open[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                await self._send([json.dumps({"do": do, "id": number, **fields}).encode(), *blobs])
                said = await answer
        finally:
            del self._open[number]
        if "error" in said:
            raise CallError(said["error"])
        return said

    async def tell(self, do: str, *blobs: bytes, **fields: Any) -> None:
        """Say something that needs no answer."""
        await self._send([json.dumps({"do": do, **fields}).encode(), *blobs])

    async def deliver(self, parts: list[bytes]) -> None:
        """Deal with a message from the other end."""
        said: Fields = json.loads(parts[0])
        if "answer" in said:
            waiting = self._open.get(said["answer"])
            if waiting is not None and not waiting.done():
                waiting.set_result(said)
        elif "id" in said:
            task = asyncio.create_task(self._answer(said, parts[1:]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            await self._handle(said, parts[1:])

    async def _answer(self, said: Fields, blobs: list[bytes]) -> None:
        answer = await self._handle(said, blobs)
        await self._send([json.dumps({**answer, "answer": said["id"]}).encode()])

    async def _handle(self, said: Fields, blobs: list[bytes]) -> Fields:
        handler = self._handlers.get(str(said.get("do")))
        if handler is None:
            return {"error": f"This end does not know {said.get('do')!r}: the two ends are of different versions."}
        try:
            return await handler(said, blobs) or {}
        except CallError as error:
            return {"error": str(error)}
        except Exception as error:
            log.exception("%s failed", said["do"])
            return {"error": f"{said['do']} failed: {type(error).__name__}"}

    async def close(self, why: str) -> None:
        """Let everybody who still waits know that no answer will come."""
        for waiting in self._open.values():
            if not waiting.done():
                waiting.set_result({"error": why})
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
