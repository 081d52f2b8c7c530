"""Ask the launcher, from the hub and from dask-gateway."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from specola.core.accounts import Account
from specola.core.errors import (
    BadInput,
    Conflict,
    Forbidden,
    NotFound,
    PublicError,
    SpecolaError,
    Unavailable,
)

LINE_LIMIT = 4 * 1024 * 1024
ANSWER_WAIT = 150.0
RETRY_EVERY = 0.1
_ERRORS: dict[str, type[PublicError]] = {
    error.reason: error for error in (BadInput, Conflict, Forbidden, NotFound, Unavailable)
}


class LauncherError(SpecolaError):
    """The launcher tried, and the machine did not let it."""


@dataclass(frozen=True)
class Started:
    """A program that runs: pid, account, home, and its own directory for files and sockets."""

    pid: int
    account: str
    home: Path
    files: Path
    limits: dict[str, str] = field(default_factory=dict)
    """`memory` and `cpu`: `enforced`, `advisory` or `none`"""


@dataclass(frozen=True)
class Alive:
    """The program runs."""

    pid: int


@dataclass(frozen=True)
class Gone:
    """The program does not run; the code is None where nobody saw it end."""

    code: int | None


class Launcher:
    """The launcher of a facility; one that restarts is waited for."""

    def __init__(self, socket: Path, *, wait: float = 20.0) -> None:
        self._socket = socket
        self._wait = wait

    async def start(
        self,
        key: str,
        person: str,
        argv: list[str],
        env: dict[str, str],
        *,
        files: dict[str, str] | None = None,
        directory: Path | str | None = None,
        memory_gib: float | None = None,
        cores: float | None = None,
        log: str | None = None,
    ) -> Started:
        """Start a program of a person; asked twice it is the same one. `{files}` stands for its own directory."""
        answer = await self._ask(
            "start",
            key=key,
            person=person,
            argv=argv,
            env=env,
            files=files or {},
            directory=None if directory is None else str(directory),
            memory_gib=memory_gib,
            cores=cores,
            log=log,
        )
        return Started(
            answer["pid"], answer["account"], Path(answer["home"]), Path(answer["files"]), dict(answer["limits"])
        )

    async def poll(self, key: str) -> Alive | Gone:
        """Whether a program runs."""
        return _state(await self._ask("poll", key=key))

    async def signal(self, key: str, signum: int) -> Alive | Gone:
        """Send a signal to a program's first process."""
        return _state(await self._ask("signal", key=key, signum=int(signum)))

    async def end(self, key: str, *, grace: float = 10.0) -> Gone:
        """End a program with all that it started; it is asked to for `grace` seconds."""
        answer = await self._ask("end", key=key, grace=grace)
        return Gone(answer["code"])

    async def end_all(self, prefix: str = "", *, grace: float = 10.0) -> list[str]:
        """End every program whose key begins so."""
        return list((await self._ask("end_all", prefix=prefix, grace=grace))["ended"])

    async def keys(self, prefix: str = "") -> list[str]:
        """Keys of the programs that run now."""
        return list((await self._ask("keys", prefix=prefix))["keys"])

    async def log(self, key: str, tail_bytes: int = 4096) -> str:
        """The end of what a program has written."""
        return str((await self._ask("log", key=key, tail_bytes=tail_bytes))["log"])

    async def files(self, key: str, files: dict[str, str]) -> Path:
        """Replace files of a program that runs."""
        return Path((await self._ask("files", key=key, files=files))["files"])

    async def account(self, person: str) -> Account:
        """The account of a person, made with its home on first use."""
        answer = await self._ask("account", person=person)
        return Account(answer["name"], answer["uid"], answer["gid"], Path(answer["home"]), Path(answer["runtime"]))

    async def _ask(self, verb: str, **more: Any) -> dict[str, Any]:
        line = json.dumps({"verb": verb, **more}).encode() + b"\n"
        limit = asyncio.get_running_loop().time() + self._wait
        while True:
            try:
                answer = await self._once(line)
            except (OSError, ValueError, TimeoutError):
                # every verb may be asked twice, so a launcher that was killed in between is simply asked again
                if asyncio.get_running_loop().time() >= limit:
                    raise Unavailable("The launcher does not answer", "It is started again by itself.") from None
                await asyncio.sleep(RETRY_EVERY)
            else:
                break
        if "error" in answer:
            known = _ERRORS.get(answer.get("reason", ""))
            raise known(answer["error"]) if known else LauncherError(answer["error"])
        return answer

    async def _once(self, line: bytes) -> dict[str, Any]:
        reader, writer = await asyncio.open_unix_connection(self._socket, limit=LINE_LIMIT)
        try:
            writer.write(line)
            await writer.drain()
            answer: dict[str, Any] = json.loads(await asyncio.wait_for(reader.readline(), ANSWER_WAIT))
            return answer
        finally:
            writer.close()


def _state(answer: dict[str, Any]) -> Alive | Gone:
    return Alive(answer["pid"]) if answer["alive"] else Gone(answer["code"])
