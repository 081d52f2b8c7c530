"""From a fork of the launcher to a person's program: everything between `fork` and `exec`."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from specola.core import processinfo
from specola.core.accounts import Account
from specola.core.people import become
from specola.launcher.limits import Box

NO_NEW_PRIVILEGES = 38
OOM_SCORE = 500
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


def fork(plan: Plan) -> tuple[int, str]:
    """Start the program: its pid, and why it could not be started ('' when it was)."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(plan, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        return pid, pipe.read().decode(errors="replace")


def _child(plan: Plan, writing: int) -> NoReturn:  # pragma: no cover - ends in exec, which no measurement survives
    try:
        _leave_parent(plan)
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


def _leave_parent(plan: Plan) -> None:  # pragma: no cover - the same
    """Own session, default signals, no descriptor of the launcher's after exec."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(0o077)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (plan.log, 1), (plan.log, 2)):
        os.dup2(source, target)
    for path in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError):
            if int(path.name) > 2:  # noqa: PLR2004 - stdin, stdout and stderr stay
                os.set_inheritable(int(path.name), False)  # noqa: FBT003 - positional in the standard library


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
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps(facts))
    new.replace(path)


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
