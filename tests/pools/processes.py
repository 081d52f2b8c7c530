"""The daemons of a pool: started as root, ended by pid with all that came from them."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from running import TOP, wait_for
from specola.core import processinfo

GUARD = """
import sys
if sys.stdin.read() != "done":  # nobody is there any more to say so
    sys.path.insert(0, sys.argv[1])
    from pathlib import Path
    from pools.processes import clear
    clear(Path(sys.argv[2]))
"""


@contextlib.contextmanager
def pool_directory(name: str) -> Iterator[Path]:
    """A directory that everybody can look into; with it goes all that its pool runs, also when tests are killed."""
    top = Path(tempfile.mkdtemp(prefix=f"sp-{name}-", dir="/var/tmp"))
    top.chmod(0o755)
    guard = [sys.executable, "-c", GUARD, str(Path(__file__).parents[1]), str(top)]
    with subprocess.Popen(guard, stdin=subprocess.PIPE, cwd="/", start_new_session=True) as guarding:
        try:
            yield top
        finally:
            clear(top)
            guarding.communicate(b"done")


def clear(top: Path) -> None:
    """End what a pool left behind, and remove its directory."""
    end(marked(top))
    shutil.rmtree(top, ignore_errors=True)


def keep_logs(top: Path, logs: Path) -> None:
    """Logs are artefacts of the tests."""
    target = TOP / "artefacts" / "logs" / top.name
    target.mkdir(parents=True, exist_ok=True)
    for log in logs.iterdir():
        if log.is_file():
            shutil.copyfile(log, target / log.name)


def command(argv: list[str], env: dict[str, str], account: str | None, script: str = "") -> str:
    """What a command prints, run as root or as an account and nothing else; `script` is what it reads."""
    entry = pwd.getpwnam(account) if account else None
    done = subprocess.run(
        argv,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", **env},
        user=entry.pw_uid if entry else None,
        group=entry.pw_gid if entry else None,
        extra_groups=[] if entry else None,
        cwd="/",
        input=script,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode:
        raise CommandFailed(f"{Path(argv[0]).name}: {done.stdout}{done.stderr}")
    return done.stdout


class CommandFailed(Exception):
    """A command of the pool refused; what it said."""


class Daemon:
    """A process that stays in the foreground."""

    def __init__(
        self, argv: list[str], env: dict[str, str], output: Path, *, end_by: signal.Signals = signal.SIGQUIT
    ) -> None:
        self._argv = ["setpriv", "--pdeathsig", end_by.name.removeprefix("SIG"), *argv]
        self._env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", **env}
        self._output = output
        self._end_by = end_by
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def alive(self) -> bool:
        """True, or what it said before it ended."""
        assert self._process is not None
        assert self._process.poll() is None, self._output.read_text()
        return True

    def __enter__(self) -> Self:
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                self._argv,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        family = [processinfo.identity(self.pid), *descendants(self.pid)]
        self._process.send_signal(self._end_by)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        end([process for process in family if process is not None])
        self._process.wait()


def descendants(pid: int) -> list[processinfo.Identity | None]:
    """All processes below one."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [processinfo.identity(child.pid) for child in psutil.Process(pid).children(recursive=True)]
    return []


def marked(top: Path) -> list[processinfo.Identity]:
    """Processes of a pool that left their daemon's family: jobs and their guards.

    They name its directory in their environment, or have a file of it open.
    """
    found = [processinfo.identity(pid) for pid in psutil.pids() if pid != os.getpid() and _speaks_of(top, pid)]
    return [process for process in found if process is not None]


def _speaks_of(top: Path, pid: int) -> bool:
    place = Path(f"/proc/{pid}")
    with contextlib.suppress(OSError):
        if f"{top}/".encode() in (place / "environ").read_bytes():
            return True
        return any(link.readlink().is_relative_to(top) for link in (place / "fd").iterdir())
    return False


def end(processes: list[processinfo.Identity]) -> None:
    """End them, and wait until they are gone."""
    for process in processes:
        processinfo.kill(process)
    wait_for(lambda: not any(processinfo.alive(process) for process in processes), 20, "the end of a pool")
