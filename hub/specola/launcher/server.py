"""The launcher's socket: who may call, one line in, one line out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from specola.core.accounts import check_person
from specola.core.errors import BadInput, Forbidden, PublicError, SpecolaError
from specola.launcher import asked
from specola.launcher.programs import Programs

LINE_LIMIT = 4 * 1024 * 1024
ASK_WAIT = 10.0
DEFAULT_GRACE = 10.0
LONGEST_GRACE = 120.0
SOCKET_PATH_LIMIT = 107
PEER = struct.Struct("3i")
Ask = dict[str, Any]
Verb = Callable[[Ask], Awaitable[Any]]

log = logging.getLogger(__name__)


class Server:
    """Answers the accounts that may ask, each request on a connection of its own."""

    def __init__(self, programs: Programs, allowed: frozenset[int]) -> None:
        self._programs = programs
        self._allowed = allowed
        self._verbs: dict[str, Verb] = {
            "start": self._start,
            "poll": self._poll,
            "signal": self._signal,
            "end": self._end,
            "end_all": self._end_all,
            "keys": self._keys,
            "log": self._log,
            "files": self._files,
            "account": self._account,
        }

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one request, answer it, hang up."""
        try:
            reply = await self._reply(reader, writer)
        except PublicError as error:
            reply = {"error": error.title, "reason": error.reason}
        except SpecolaError as error:
            reply = {"error": str(error), "reason": "failed"}
        except OSError as error:
            log.exception("the machine refused")
            reply = {"error": f"the machine refused: {error.strerror}", "reason": "failed"}
        with contextlib.suppress(OSError):
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
            writer.close()

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Ask:
        if _peer(writer.get_extra_info("socket")) not in self._allowed:
            raise Forbidden("This account may not ask the launcher")
        try:
            ask = json.loads(await asyncio.wait_for(reader.readline(), ASK_WAIT))
            verb = self._verbs[ask.pop("verb")]
        except (ValueError, AttributeError, KeyError, TypeError, TimeoutError):
            raise BadInput(f"Ask one line of JSON with one of the verbs {', '.join(self._verbs)}") from None
        answer: Ask = await verb(ask)
        return answer

    async def _start(self, ask: Ask) -> Ask:
        wish = asked.start(ask)
        answer = await self._programs.start(**wish)
        log.info("start %s: pid %s as %s", wish["key"], answer["pid"], answer["account"])
        return answer

    async def _poll(self, ask: Ask) -> Ask:
        return self._programs.poll(_only_key(ask))

    async def _signal(self, ask: Ask) -> Ask:
        signum = asked.number("signum", ask.pop("signum", None), low=1, high=64)
        return self._programs.signal(_only_key(ask), signum)

    async def _end(self, ask: Ask) -> Ask:
        grace = _grace(ask)
        key = _only_key(ask)
        answer = await self._programs.end(key, grace)
        log.info("end %s", key)
        return answer

    async def _end_all(self, ask: Ask) -> Ask:
        grace = _grace(ask)
        return {"ended": await self._programs.end_all(_only_prefix(ask), grace)}

    async def _keys(self, ask: Ask) -> Ask:
        return {"keys": self._programs.keys(_only_prefix(ask))}

    async def _log(self, ask: Ask) -> Ask:
        size = asked.number("tail_bytes", ask.pop("tail_bytes", 4096), low=1, high=asked.MAX_TAIL)
        return {"log": self._programs.logs.tail(_only_key(ask), size)}

    async def _files(self, ask: Ask) -> Ask:
        files = asked.files(ask.pop("files", None))
        return await self._programs.files(_only_key(ask), files)

    async def _account(self, ask: Ask) -> Ask:
        person = check_person(ask.pop("person", None))
        asked.nothing_more(ask)
        return await self._programs.account(person)


def _only_key(ask: Ask) -> str:
    key = asked.key(ask.pop("key", None))
    asked.nothing_more(ask)
    return key


def _only_prefix(ask: Ask) -> str:
    prefix = asked.prefix(ask.pop("prefix", ""))
    asked.nothing_more(ask)
    return prefix


def _grace(ask: Ask) -> float:
    value = ask.pop("grace", DEFAULT_GRACE)
    if value == 0 and not isinstance(value, bool):
        return 0.0
    return min(asked.amount("grace", value) or DEFAULT_GRACE, LONGEST_GRACE)


def _peer(connection: socket.socket) -> int:
    """The uid of the caller, as the kernel says."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size)
    return int(PEER.unpack(credentials)[1])


async def serve(path: Path, server: Server, owner: tuple[int, int] | None) -> asyncio.Server:
    """Listen on a 0600 socket that belongs to the account which may ask."""
    if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
        raise SpecolaError(f"the path of the socket {path} is too long for the kernel: choose a shorter --state")
    path.unlink(missing_ok=True)  # noqa: ASYNC240 - before anybody is served
    listening = await asyncio.start_unix_server(server.answer, path, limit=LINE_LIMIT)
    if owner is not None:
        os.chown(path, *owner)
    path.chmod(0o600)  # noqa: ASYNC240 - the same
    return listening
