"""Processes by pid *and* start time: together they name one process for ever, a pid alone does not."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from specola.core.files import read_regular

PROC = Path("/proc")
GONE = frozenset("ZXx")
RECORD = 100


@dataclass(frozen=True)
class Identity:
    """One process: its pid, and when it started in clock ticks since the boot."""

    pid: int
    start: int


def _fields(pid: int) -> list[str] | None:
    """`/proc/PID/stat` from the state on (the name before it may hold spaces and parentheses)."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None


def identity(pid: int) -> Identity | None:
    """The identity of a process that runs now; None for one that is gone, or only waits to be reaped."""
    fields = _fields(pid)
    if not fields or fields[0] in GONE:
        return None
    return Identity(pid, int(fields[19]))


def alive(process: Identity) -> bool:
    """Whether that very process, not another with its pid, still runs."""
    return identity(process.pid) == process


def kill(process: Identity, signum: int = signal.SIGKILL) -> None:
    """Signal that very process; one that is gone is fine."""
    if alive(process):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signum)


def recorded(directory: Path) -> Iterator[tuple[str, Identity]]:
    """Running processes that the files of a directory name by pid and start time.

    A record speaks for processes of the directory's owner only: nobody can name another's to have it ended.
    """
    try:
        owned_by = directory.lstat().st_uid
        files = sorted(directory.iterdir()) if not directory.is_symlink() else []
    except OSError:
        return
    for file in files:
        try:
            words = read_regular(file, RECORD).split()
        except OSError:
            continue
        if len(words) == 2 and all(word.isdecimal() and word.isascii() for word in words):  # noqa: PLR2004 - pid, start
            process = Identity(int(words[0]), int(words[1]))
            if alive(process) and owner(process.pid) == owned_by:
                yield file.name, process


def session(pid: int) -> int | None:
    """The session of a process that runs now."""
    fields = _fields(pid)
    return None if not fields or fields[0] in GONE else int(fields[3])


def parent(pid: int) -> int | None:
    """The parent of a process that runs now."""
    fields = _fields(pid)
    return None if not fields or fields[0] in GONE else int(fields[1])


def pids() -> Iterator[int]:
    """Every pid of this machine, at this moment."""
    return (int(path.name) for path in PROC.iterdir() if path.name.isdigit())


def children(pid: int) -> list[int]:
    """Running processes whose parent is this one."""
    return [other for other in pids() if parent(other) == pid]


def owner(pid: int) -> int | None:
    """The real uid of a process."""
    try:
        lines = (PROC / str(pid) / "status").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("Uid:")), None)


def of_account(uid: int) -> list[int]:
    """Running processes with this real uid."""
    return [pid for pid in pids() if owner(pid) == uid and identity(pid) is not None]


def variable(pid: int, name: str) -> str | None:
    """A variable of the environment that a process was started with, where we may read it."""
    try:
        content = (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return None
    wanted = f"{name}=".encode()
    for entry in content.split(b"\0"):
        if entry.startswith(wanted):
            return entry[len(wanted) :].decode(errors="replace")
    return None
