"""The use cases of the launcher: start, poll, signal and end programs of people."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import shutil
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from specola.core import processinfo
from specola.core.accounts import UNREACHABLE, Account, uid_is_used
from specola.core.errors import Conflict, NotFound, SpecolaError
from specola.core.people import People, has_room
from specola.core.rights import as_account
from specola.launcher.child import Plan, fork, write_files
from specola.launcher.limits import Limits
from specola.launcher.logs import Logs
from specola.launcher.records import Record, Records

MARK = "SPECOLA_PROGRAM"
PATH = "/usr/local/bin:/usr/bin:/bin"
TEND_EVERY = 1.0
KILL_WAIT = 8.0
LOOK_EVERY = 0.03
Answer = dict[str, Any]

log = logging.getLogger(__name__)


class Programs:
    """Every program of every person of one facility."""

    def __init__(self, facility: str, people: People, records: Records, logs: Logs, limits: Limits) -> None:
        self._facility = facility
        self._people = people
        self._records = records
        self.logs = logs
        self._limits = limits
        self._codes: dict[int, int] = {}
        self._ours: set[int] = set()
        self._tending: dict[str, asyncio.Task[None]] = {}
        # what is done as a person's account, one after the other: the last sweep must not hit the next start,
        # and whoever stops what acts for them keeps only themselves waiting
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._sweeping = asyncio.Lock()

    # start

    async def start(self, *, key: str, person: str, **wish: Any) -> Answer:
        """Start a program; asked twice it is the same one."""
        async with self._records.lock(key) as lock:
            known = self._look(key)
            if known is not None and known.person != person:
                raise Conflict("This key belongs to a program of another person")
            if known is not None and known.alive:
                return _started(known)
            if known is not None:
                await self._swept(known)
            async with self._turns[person]:
                return await self._start(key, person, lock, **wish)

    async def _start(
        self,
        key: str,
        person: str,
        lock: int,
        *,
        argv: list[str],
        env: dict[str, str],
        files: dict[str, str],
        directory: str | None,
        memory_gib: float | None,
        cores: float | None,
        log: str | None,
    ) -> Answer:
        account = await self._people.account(person)
        place = files_directory(account, key)
        words = [word.replace("{files}", str(place)) for word in argv]
        variables = environment(account, env, str(place)) | {MARK: f"{self._facility}/{key}"}
        box = self._limits.box(key, memory_gib, cores)
        record = Record(key, person, account.name, account.uid, str(account.home), str(place), dict(box.effects))
        if not await self._as_person(account, lambda: _ready(account, key, place)):
            variables |= without_home(account)
        output = self.logs.open(log or key)
        plan = Plan(
            argv=words,
            env=variables,
            account=account,
            separate=self._people.separate,
            files=files,
            files_directory=place,
            directory=Path(directory) if directory else account.home,
            record=self._records.path(key),
            facts=asdict(record),
            box=box,
            log=output,
            lock=lock,
        )
        try:
            pid, trouble = await fork(plan)
        finally:
            os.close(output)
        if trouble:
            self._records.forget(key)
            self._limits.remove(key)
            raise SpecolaError(f"{words[0]} could not be started as {account.name}: {trouble}")
        self._ours.add(pid)
        started = self._records.get(key)
        if started is None:
            raise SpecolaError(f"the record of {key} is gone")
        return _started(started)

    # look

    def poll(self, key: str) -> Answer:
        """Whether a program runs; its exit code, where this very launcher saw it end."""
        record = self._look(key)
        if record is None:
            return {"alive": False, "code": None}
        if record.alive:
            return {"alive": True, "pid": record.pid}
        return {"alive": False, "code": record.code}

    def keys(self, prefix: str) -> list[str]:
        """Programs that run now."""
        return [record.key for record in self._records.all() if record.key.startswith(prefix) and record.alive]

    async def account(self, person: str) -> Answer:
        """A person's account and home, made on first use."""
        async with self._turns[person]:
            account = await self._people.account(person)
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(account).items()}

    async def files(self, key: str, files: dict[str, str]) -> Answer:
        """Replace files of a program that runs."""
        record = self._look(key)
        if record is None or not record.alive:
            raise NotFound("No such program runs")
        async with self._turns[record.person]:
            await self._as_person(_account(record), lambda: write_files(Path(record.files), files))
        return {"files": record.files}

    # end

    def signal(self, key: str, signum: int) -> Answer:
        """Send a signal to a program's first process."""
        record = self._look(key)
        if record is not None and record.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.pid, signum)
        return self.poll(key)

    async def end(self, key: str, grace: float) -> Answer:
        """End a program and all that it started: asked nicely first, then without asking."""
        async with self._records.lock(key):
            record = self._look(key)
            if record is None:
                return {"alive": False, "code": None}
            if record.alive and grace:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(record.pid, signal.SIGTERM)
                await self._gone(record, grace)
            if record.alive:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(record.pid, signal.SIGKILL)
                await self._gone(record, KILL_WAIT)
            record = self._look(key) or record
            if record.alive:
                raise SpecolaError(f"{key} does not end, even by SIGKILL (pid {record.pid})")
            clean = await self._swept(record)
            self._limits.remove(key)
            await self._remove_files(record)
            if clean:  # else its record stays, and what is left is tended
                self._records.forget(key)
            return {"alive": False, "code": record.code}

    async def end_all(self, prefix: str, grace: float) -> list[str]:
        """End every program whose key begins so, at the same time."""
        keys = [record.key for record in self._records.all() if record.key.startswith(prefix)]
        for result in await asyncio.gather(*(self.end(key, grace) for key in keys), return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        return keys

    async def _gone(self, record: Record, seconds: float) -> None:
        await _until(lambda: not record.alive, seconds)

    async def _swept(self, record: Record) -> bool:
        """Kill what a program left behind until nothing is there; whether that was reached."""
        limit = time.monotonic() + KILL_WAIT
        while True:
            try:
                if not await self._sweep(record):
                    return True
            except SpecolaError as error:
                log.warning("what %s left could not be ended: %s", record.key, error)
            if time.monotonic() > limit:
                log.warning("%s has left processes that do not end yet", record.key)
                return False
            await asyncio.sleep(LOOK_EVERY)

    async def _sweep(self, record: Record) -> bool:
        """Kill what a program left behind; whether there was anything."""
        left = self._left_behind(record)
        for process in left:
            processinfo.kill(process)
        if left:
            return True
        async with self._turns[record.person]:
            return await self._sweep_account(record)

    def _left_behind(self, record: Record) -> list[processinfo.Identity]:
        candidates = set(processinfo.of_account(record.uid))
        recycled = processinfo.identity(record.pid) is not None
        in_groups = self._limits.members(record.key)
        mark = f"{self._facility}/{record.key}"
        found = [
            processinfo.identity(pid)
            for pid in candidates - {os.getpid()}
            if pid in in_groups
            or processinfo.variable(pid, MARK) == mark
            or (not recycled and processinfo.session(pid) == record.pid)
        ]
        return [process for process in found if process is not None]

    async def _sweep_account(self, record: Record) -> bool:
        """With a person's last program, end whatever the account still runs."""
        if not self._people.separate or record.uid == 0:
            return False
        if any(other.alive for other in self._records.all() if other.uid == record.uid):
            return False
        if not processinfo.of_account(record.uid):
            return False
        # kill(-1) as the account: nothing that forks meanwhile escapes, and nothing of others can be hit;
        # one at a time, since the number that hides it from the account does not hide it from another one
        async with self._sweeping:
            await as_account(_account(record), _kill_all, unreachable=not uid_is_used(UNREACHABLE))
        return True

    async def _as_person(self, account: Account, action: Callable[[], str | None]) -> str:
        return await as_account(account, action) if self._people.separate else action() or ""

    async def _remove_files(self, record: Record) -> None:
        account = _account(record)

        def remove() -> None:
            shutil.rmtree(record.files, ignore_errors=True)
            with contextlib.suppress(OSError):
                (account.runtime / "keys" / record.key).unlink()

        try:
            async with self._turns[record.person]:
                await self._as_person(account, remove)
        except SpecolaError as error:
            log.warning("files of %s stay: %s", record.key, error)

    # tend

    def _look(self, key: str) -> Record | None:
        """The record of a key, its end noted where it has come."""
        record = self._records.get(key)
        if record is None or record.over or record.alive:
            return record
        self.reap()  # only now: what ended after an earlier look would have no code
        return self._records.ended(record, self._codes.pop(record.pid, None))

    def reap(self) -> None:
        """Take the exit codes of our own children."""
        for pid in list(self._ours):
            try:
                done, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                self._ours.discard(pid)
                continue
            if done:
                self._ours.discard(pid)
                self._codes[pid] = os.waitstatus_to_exitcode(status)

    def tend(self) -> None:
        """Begin to end what programs that ended by themselves left behind, each apart; keep logs short."""
        records = self._records.all()
        for record in records:
            if not (record.alive or record.swept or record.key in self._tending):
                self._tending[record.key] = asyncio.create_task(self._tidy(record.key))
        self.logs.tidy({record.key for record in records if record.alive})

    async def _tidy(self, key: str) -> None:
        try:
            async with self._records.lock(key):
                record = self._look(key)
                if record is not None and not record.alive and await self._swept(record):
                    self._records.swept(record)
        except (SpecolaError, OSError) as error:
            log.warning("what %s left is tried again: %s", key, error)
        finally:
            del self._tending[key]

    async def tend_for_ever(self) -> None:
        """Tend every second, whatever goes wrong in one."""
        while True:
            try:
                self.tend()
            except Exception:
                log.exception("tending is tried again")
            await asyncio.sleep(TEND_EVERY)


def _started(record: Record) -> Answer:
    return {
        "pid": record.pid,
        "account": record.account,
        "home": record.home,
        "files": record.files,
        "limits": record.limits,
    }


async def _until(condition: Callable[[], bool], seconds: float) -> None:
    limit = time.monotonic() + seconds
    while not condition() and time.monotonic() < limit:  # noqa: ASYNC110 - what others do to processes sets no event
        await asyncio.sleep(LOOK_EVERY)


def _account(record: Record) -> Account:
    """The account that a program runs as, from its record alone; our accounts have the gid of their uid."""
    return Account(record.account, record.uid, record.uid, Path(record.home), Path(record.files).parent.parent)


def _kill_all() -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)


def files_directory(account: Account, key: str) -> Path:
    """A program's own directory: a digest for a name, since sockets lie in it and a path of theirs is short."""
    return account.runtime / "files" / hashlib.sha256(key.encode()).hexdigest()[:12]


def _ready(account: Account, key: str, place: Path) -> str:
    """Show a program's directory under its key; whether the home has room, as `has_room`."""
    link = account.runtime / "keys" / key
    if not os.path.lexists(link):
        link.symlink_to(Path("..") / "files" / place.name)
    return has_room(account)


def environment(account: Account, env: dict[str, str], place: str) -> dict[str, str]:
    """The environment of a program: nothing of ours, the account's own places where nothing else is said.

    Nor does it see a GPU, unless a lease says which: neither CUDA nor a container's NVIDIA runtime shows it any.
    """
    own = {
        "HOME": str(account.home),
        "USER": account.name,
        "LOGNAME": account.name,
        "SHELL": "/bin/bash",
        "PATH": PATH,
        "TMPDIR": str(account.home / ".tmp"),
        "XDG_RUNTIME_DIR": str(account.runtime / "run"),
        "JUPYTER_RUNTIME_DIR": str(account.runtime / "run"),
        "NVIDIA_VISIBLE_DEVICES": "void",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return own | {name: value.replace("{files}", place) for name, value in env.items()}


def without_home(account: Account) -> dict[str, str]:
    """What lets Jupyter start in a home without room: its owner must be able to log in and tidy up."""
    names = {"TMPDIR": "tmp", "IPYTHONDIR": "ipython", "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data"}
    return {variable: str(account.runtime / name) for variable, name in names.items()}
