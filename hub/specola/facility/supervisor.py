"""Start, watch and stop the facility's processes; the supervisor itself is supervisord."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from specola.client.launcher import Launcher
from specola.core.errors import SpecolaError, StateError
from specola.core.files import read_regular
from specola.core.layout import Layout
from specola.core.processinfo import Identity, alive, kill, recorded
from specola.facility.processes import Process, log_directory, supervisord, table
from specola.facility.runtime import Runtime

READY_WITHIN = 150.0
STOP_WITHIN = 60.0
SETTLE = 0.1


@dataclass(frozen=True)
class Found:
    """A process of an earlier start that still runs."""

    name: str
    process: Identity


def supervisor_pid(layout: Layout) -> int | None:
    """The pid of this facility's supervisor, when it runs."""
    try:
        pid = int((layout.run / "supervisord.pid").read_text())
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if str(layout.run / "supervisord.conf").encode() in line else None


def running(layout: Layout) -> Iterator[Found]:
    """Every sibling that its record says was started, and that still is that very process."""
    for place in (layout.run, layout.state):
        for name, process in recorded(place / "pids"):
            yield Found(name, process)


def end_running(layout: Layout) -> list[str]:
    """End siblings that lost their supervisor, by pid and start time; user programs are not touched."""
    found = list(running(layout))
    for signum, seconds in ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0)):
        for one in found:
            kill(one.process, signum)
        _wait(lambda: not any(alive(one.process) for one in found), seconds)
    return [one.name for one in found]


def write_configuration(runtime: Runtime) -> Path:
    """Render the process table where the supervisor reads it."""
    configuration = runtime.layout.run / "supervisord.conf"
    configuration.touch(mode=0o600)
    configuration.write_text(supervisord(runtime, root=os.geteuid() == 0))
    return configuration


def restart(runtime: Runtime) -> None:
    """Let the supervisor end every process, read the table again and start them; user programs go on."""
    pid = supervisor_pid(runtime.layout)
    if pid is None:
        raise StateError("it is not up: start it with `specola up`")
    before = list(running(runtime.layout))
    write_configuration(runtime)
    os.kill(pid, signal.SIGHUP)
    _wait(lambda: not any(alive(one.process) for one in before), STOP_WITHIN)


def start(runtime: Runtime) -> None:
    """Start the supervisor in a session of its own; it outlives the command that started it."""
    configuration = write_configuration(runtime)
    (runtime.layout.run / "stopped").unlink(missing_ok=True)
    program = runtime.addresses.env / "bin" / "supervisord"
    if not program.exists():
        raise StateError(f"{program} is missing: pip install 'specola[local]'")
    environment = {
        "PATH": f"{program.parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "LANG": "C.UTF-8",
        "HOME": "/",
    }
    subprocess.Popen(
        [program, "-n", "-c", configuration],
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_ready(runtime: Runtime, tell: Callable[[str, float], None]) -> None:
    """Wait until every process answers; `tell` hears each name with the seconds that it took."""
    begin = time.monotonic()
    waiting = {process.name: process for process in table(runtime)}
    while waiting:
        for process in [*waiting.values()]:
            if healthy(process):
                del waiting[process.name]
                tell(process.name, time.monotonic() - begin)
        if waiting and time.monotonic() - begin > READY_WITHIN:
            raise StateError("\n".join(_why(runtime, process) for process in waiting.values()))
        time.sleep(SETTLE)


def healthy(process: Process) -> bool:
    """Whether a process answers on its health address."""
    try:
        if process.health.startswith("/"):
            asyncio.run(Launcher(Path(process.health), wait=0.5).keys())
            return True
        return httpx.get(process.health, timeout=5, trust_env=False).is_success
    except (httpx.HTTPError, OSError, SpecolaError):
        return False


def _why(runtime: Runtime, process: Process) -> str:
    log = log_directory(runtime, process) / f"{process.name}.log"
    try:
        tail = read_regular(log).splitlines()[-8:]
    except OSError:
        tail = ["(it wrote nothing)"]
    return "\n    ".join([f"{process.name} does not answer; the end of {log}:", *tail])


def stop(runtime: Runtime) -> list[str]:
    """End user programs, then the processes; answers what had to be ended one by one."""
    with contextlib.suppress(OSError, SpecolaError):
        asyncio.run(Launcher(runtime.layout.launcher_socket, wait=2).end_all())
    ended = stop_processes(runtime.layout)
    _end_programs(runtime)
    return ended


def _end_programs(runtime: Runtime) -> None:
    """What no launcher ended: all, where it was gone, else what the hub or the gateway had it start meanwhile."""
    if not (runtime.layout.run / "programs").is_dir():
        return
    from specola.launcher.__main__ import build, settings

    _, programs, _ = build(settings([f"--state={runtime.layout.state}", f"--homes={runtime.homes}"]))
    asyncio.run(programs.end_all("", 10.0))


def stop_processes(layout: Layout) -> list[str]:
    """End the supervisor and with it the processes; user programs are not touched."""
    pid = supervisor_pid(layout)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        _wait(lambda: supervisor_pid(layout) is None, STOP_WITHIN)
    return end_running(layout)


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    limit = time.monotonic() + seconds
    while not condition() and time.monotonic() < limit:
        time.sleep(SETTLE)
