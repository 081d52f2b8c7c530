"""From a fork of the launcher to a person's program: everything between `fork` and `exec`."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from specola.core import processinfo
from specola.core.accounts import Account
from specola.core.files import replace_file
from specola.core.rights import become, leave_parent, outcome, reaped
from specola.launcher.limits import Box

NO_NEW_PRIVILEGES = 38
OOM_SCORE = 500
START_WITHIN = 30.0
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Plan:
    """All that a child needs to become a program."""

    argv: list[str]
    env: dict[str, str]
    account: Account
    separate: bool
    files: dict[str, str]
    files_directory: Path
    directory: Path
    record: Path
    facts: dict[str, Any]
    box: Box
    log: int
    lock: int
    """of the program's key: held until it execs"""


async def fork(plan: Plan) -> tuple[int, str]:
    """Start the program: its pid, and why it could not be started ('' when it was)."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(plan, writing)
    os.close(writing)
    words = await outcome(pid, reading, START_WITHIN)
    if words is None:
        words = "it was stopped while it started"
    if words:
        await reaped(pid)
    return pid, words


def _child(plan: Plan, writing: int) -> NoReturn:  # pragma: no cover - ends in exec, which no measurement survives
    try:
        _leave_parent(plan, writing)
        _limit(plan)
        write_record(plan.record, plan.facts | _own_identity())
        if plan.separate:
            become(plan.account)
        _libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        write_files(plan.files_directory, plan.files)
        os.chdir(plan.directory)
        os.execve(plan.argv[0], plan.argv, plan.env)  # noqa: S606 - no shell is wanted
    except BaseException as error:  # noqa: BLE001 - a forked child must never return into the parent's stack
        words = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else str(error)
        os.write(writing, words.encode()[:2000] or b"unknown")
    finally:
        os._exit(127)


def _leave_parent(plan: Plan, writing: int) -> None:  # pragma: no cover - the same
    """Own session, own output; nothing of the launcher's but what is closed by exec."""
    os.setsid()
    os.umask(0o077)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (plan.log, 1), (plan.log, 2)):
        os.dup2(source, target)
    leave_parent({0, 1, 2, writing, plan.lock})


def _limit(plan: Plan) -> None:  # pragma: no cover - the same
    # raising is allowed to everybody; lowering the facility's own would need a capability that containers lack
    Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    plan.box.enter()


def _own_identity() -> dict[str, int]:  # pragma: no cover - the same
    own = processinfo.identity(os.getpid())
    return {"pid": os.getpid(), "start": own.start if own else 0}


def write_record(path: Path, facts: dict[str, Any]) -> None:
    """Replace a record in one step."""
    replace_file(path, json.dumps(facts), durable=False)


def write_files(directory: Path, files: dict[str, str]) -> None:
    """Write a program's files, each replaced in one step; runs with the rights of the person's account."""
    directory.mkdir(mode=0o700, exist_ok=True)
    for name, text in files.items():
        new = directory / f".{name}.new"
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        new.replace(directory / name)
