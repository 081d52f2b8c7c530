"""What the launcher remembers of each program: one file a key, written by the program's own process before it execs.

So there is no moment at which a program runs without a record, whenever the launcher is killed; the lock of a key is
held by that process until it execs, so that a new launcher waits for a record which is about to be written.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from specola.core.errors import Unavailable
from specola.core.processinfo import Identity, alive
from specola.launcher.child import write_record

LOCK_WAIT = 15.0


@dataclass(frozen=True)
class Record:
    """One program that was started."""

    key: str
    person: str
    account: str
    uid: int
    home: str
    files: str
    limits: dict[str, str]
    pid: int = 0
    start: int = 0
    over: bool = False
    code: int | None = None
    swept: bool = False
    """nothing was left of it when it was last looked for"""

    @property
    def alive(self) -> bool:
        """Whether its process still runs."""
        return not self.over and alive(Identity(self.pid, self.start))


class Records:
    """The records of a facility; the directory is the launcher's alone."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        for path in (directory, self._locks):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def _locks(self) -> Path:
        return self._directory / ".locks"

    def path(self, key: str) -> Path:
        """The file of one record."""
        return self._directory / key

    def get(self, key: str) -> Record | None:
        """The record of a key."""
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
            return Record(**json.loads(self.path(key).read_text()))
        return None

    def all(self) -> list[Record]:
        """Every record, by key."""
        names = sorted(path.name for path in self._directory.iterdir() if not path.name.startswith("."))
        return [record for record in map(self.get, names) if record is not None]

    def ended(self, record: Record, code: int | None) -> Record:
        """Note that a program is over."""
        record = replace(record, over=True, code=code)
        write_record(self.path(record.key), asdict(record))
        return record

    def swept(self, record: Record) -> None:
        """Note that nothing is left of a program."""
        write_record(self.path(record.key), asdict(replace(record, swept=True)))

    def forget(self, key: str) -> None:
        """Remove a record."""
        self.path(key).unlink(missing_ok=True)

    @contextlib.asynccontextmanager
    async def lock(self, key: str) -> AsyncIterator[int]:
        """Be the only one who starts this key, the children of a launcher that was killed included."""
        descriptor = os.open(self._locks / key, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            await _locked(descriptor)
            yield descriptor
        finally:
            os.close(descriptor)


async def _locked(descriptor: int) -> None:
    limit = time.monotonic() + LOCK_WAIT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > limit:
                raise Unavailable("This program is just being started or ended", "Try again in some seconds.") from None
            await asyncio.sleep(0.02)
        else:
            return
