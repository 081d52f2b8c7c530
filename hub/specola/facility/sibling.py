"""Start one of the facility's processes: lock, record, own log file, secrets, then exec.

Runs under the supervisor, as the account of the process, with the standard library alone (it is started
by path, so that nothing of the package is imported for it).

usage: sibling.py NAME PIDS LOGS [VAR=@file …] [then=URL@tokenfile] -- argv …

`VAR=@file` puts the content of a 0600 file into the environment of programs that take a secret in no other way.
`then=` is an HTTP POST that is tried until it succeeds, once the program runs.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from pathlib import Path

LOG_LIMIT = 20 * 1024 * 1024
ALREADY_RUNS = 75


def start_time(pid: int) -> str:
    """Start time of a process in clock ticks: with the pid, it names a process for ever."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def hold_lock(record: Path) -> int:
    """Take the lock that the program then holds for its life, and write pid and start time into it."""
    lock = os.open(record, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(2)
        sys.exit(ALREADY_RUNS)
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()} {start_time(os.getpid())}".encode(), 0)
    os.set_inheritable(lock, True)  # noqa: FBT003 - positional in the standard library
    return lock


def open_log(path: Path) -> None:
    """Send output to a file of our own: a pipe to the supervisor would break with it."""
    if path.exists() and path.stat().st_size > LOG_LIMIT:
        path.replace(path.with_suffix(".log.1"))
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o640)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def post_in_background(lock: int, url: str, token: str) -> None:
    """POST until it succeeds, from a grandchild that the program never sees."""
    if os.fork() != 0:
        os.wait()
        return
    if os.fork() != 0:
        os._exit(0)
    os.close(lock)
    import urllib.request

    request = urllib.request.Request(url, b"{}", {"Authorization": f"token {token}"})  # noqa: S310 - loopback
    for _ in range(600):
        time.sleep(0.1)
        try:
            urllib.request.urlopen(request, timeout=20).close()  # noqa: S310 - loopback
        except OSError:
            continue
        break
    os._exit(0)


def main(arguments: list[str]) -> None:
    """Become the program after `--`."""
    split = arguments.index("--")
    (name, pids, logs, *settings), argv = arguments[:split], arguments[split + 1 :]
    lock = hold_lock(Path(pids) / name)
    open_log(Path(logs) / f"{name}.log")
    for setting in settings:
        key, _, value = setting.partition("=")
        if key == "then":
            url, _, file = value.rpartition("@")
            post_in_background(lock, url, Path(file).read_text().strip())
        else:
            os.environ[key] = Path(value[1:]).read_text().strip()
    os.execv(argv[0], argv)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
