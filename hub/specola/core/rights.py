"""Doing things with the rights of another account: for a moment, in a child, or for good."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from specola.core.accounts import UNREACHABLE, Account
from specola.core.errors import SpecolaError

PATIENCE = 20.0
LOOK_EVERY = 0.002
SAID = 2000
HANDLED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


@contextmanager
def acting_as(uid: int | None, gid: int | None) -> Iterator[None]:
    """Give up root's rights for a moment, when there are any."""
    if os.geteuid() != 0 or not uid:
        yield
        return
    groups, old_gid = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(uid if gid is None else gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(old_gid)
        os.setgroups(groups)


def become(account: Account, *, unreachable: bool = False) -> None:  # pragma: no cover - in children that end
    """Turn this process into the account's, for good.

    An `unreachable` one acts for the account and cannot be signalled by it: its real uid is nobody's.
    """
    os.initgroups(account.name, account.gid)
    os.setresgid(account.gid, account.gid, account.gid)
    own = UNREACHABLE if unreachable else account.uid
    os.setresuid(own, account.uid, own)


def leave_parent(keep: set[int]) -> None:  # pragma: no cover - in children, which no measurement survives
    """Forget the parent's signals and descriptors, so that a signal to the child is none to the parent's loop."""
    signal.set_wakeup_fd(-1)
    for number in HANDLED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for descriptor in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if descriptor not in keep:
            with contextlib.suppress(OSError):
                os.close(descriptor)


async def as_account(
    account: Account, action: Callable[[], str | None], *, unreachable: bool = False, within: float | None = None
) -> str:
    """Do something with the rights of an account only, in a child: what it answers; what went wrong is raised here.

    Whoever owns the account can stop such a child, so that nothing but this call waits for it, and not for ever.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - exits at once
        _act(account, action, writing, unreachable=unreachable)
    os.close(writing)
    words = await outcome(child, reading, PATIENCE if within is None else within)
    code = await reaped(child)
    if code != 0:
        raise SpecolaError(f"as {account.name}: {'did not end in time' if words is None else words or 'ended'}")
    return words or ""


def _act(
    account: Account, action: Callable[[], str | None], writing: int, *, unreachable: bool
) -> NoReturn:  # pragma: no cover - exits at once, which no measurement survives
    code = 1
    try:
        leave_parent({0, 1, 2, writing})
        os.umask(0o077)
        become(account, unreachable=unreachable)
        os.write(writing, (action() or "").encode()[:SAID])
        code = 0
    except BaseException as error:  # noqa: BLE001 - a forked child must never return into the parent's stack
        os.write(writing, str(error).encode()[:SAID])
    finally:
        os._exit(code)


async def outcome(child: int, reading: int, within: float) -> str | None:
    """What a child says until it closes its pipe; None for one that was killed because it did not in time."""
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb")
    )
    try:
        return (await asyncio.wait_for(stream.read(), within)).decode(errors="replace")
    except TimeoutError:
        os.kill(child, signal.SIGKILL)
        return None
    finally:
        transport.close()


async def reaped(child: int) -> int:
    """The exit code of a child that has ended or is about to."""
    while True:
        done, status = os.waitpid(child, os.WNOHANG)  # noqa: ASYNC222 - returns at once
        if done:
            return os.waitstatus_to_exitcode(status)
        await asyncio.sleep(LOOK_EVERY)
