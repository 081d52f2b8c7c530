"""`specola up`, `stop`, `restart`, `status`."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import click

from specola.client.launcher import Launcher
from specola.core.errors import SpecolaError, StateError
from specola.core.files import read_regular
from specola.core.layout import Layout, default_base
from specola.core.rights import acting_as
from specola.facility import supervisor
from specola.facility.prepare import Wish, check_port, choose_addresses, is_root, prepare
from specola.facility.processes import table
from specola.facility.runtime import Runtime, addresses_file, load_runtime

FACILITY = click.option(
    "--facility", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Facility file."
)
STATE = click.option(
    "--state",
    type=click.Path(path_type=Path),
    default=lambda: default_base(root=is_root(), home=Path.home()) / "state",
    help="State directory.  [default: /var/lib/specola/state, or ~/.local/share/specola/state]",
)
KINDS = {
    "server.": "notebook server",
    "gpu.": "GPU kernel",
    "gpu-site.": "GPU kernel at a site",
    "cluster.": "Dask process",
}
"""what the keys of people's programs at the launcher begin with"""


@click.command()
@FACILITY
@STATE
@click.option("--port", type=click.IntRange(1, 65535), help="Port for browsers, on loopback.  [default: 8000]")
@click.option("--public-url", help="URL of the facility as browsers reach it.")
@click.option("--detach", is_flag=True, help="Return when it answers; end it with `specola stop`.")
def up(facility: Path | None, state: Path, port: int | None, public_url: str | None, *, detach: bool) -> None:
    """Start the facility on this machine and wait until it answers; Ctrl-C stops everything it started."""
    layout = Layout(state.absolute())
    if supervisor.supervisor_pid(layout) is not None:
        click.echo("It is up already; `specola restart --facility FILE` gives it another facility file.")
        show(load_runtime(layout))
        return
    ended = supervisor.end_running(layout)
    if ended:
        click.echo(f"Ended what an earlier start left without a supervisor: {', '.join(ended)}.")
    wish, env = Wish(state, facility, port, public_url), Path(sys.prefix)
    # Before anything is written: a port that is refused must not be the one that the next start takes.
    check_port(choose_addresses(wish, layout, env).ports.proxy)
    runtime = prepare(wish, env)
    start(runtime)
    show(runtime)
    if not detach:
        stay(runtime)


def start(runtime: Runtime) -> None:
    """Start the processes and say which answers when."""
    click.echo(f"Starting {runtime.facility.name} …")
    supervisor.start(runtime)
    try:
        supervisor.wait_ready(runtime, lambda name, seconds: click.echo(f"  ✓ {name:14} {seconds:5.1f} s"))
    except KeyboardInterrupt:
        halt(runtime)
        raise
    except BaseException:
        # People's programs may be of an earlier start: they have done nothing wrong.
        supervisor.stop_processes(runtime.layout)
        raise


def show(runtime: Runtime) -> None:
    """Where it is, who may log in, where the state lies."""
    click.echo(f"\n{runtime.facility.name} answers at  {runtime.public_url}\n")
    logins = runtime.layout.demo_logins
    if runtime.facility.identity.kind == "embedded" and logins.exists():
        click.echo("Demo logins (also in " + str(logins) + "):")
        for person in json.loads(read_regular(logins)):
            groups = ", ".join(person["groups"]) or "no group"
            click.echo(f"  {person['username']:10} {person['password']:28} {groups}")
    click.echo(f"\nState: {runtime.layout.state}\nHomes: {runtime.homes}")
    if not runtime.addresses.separate_accounts:
        click.echo("Everything runs as the account that started it: this separates nobody from anybody.")


def stay(runtime: Runtime) -> None:
    """Until Ctrl-C; a supervisor that was killed is started again."""

    def end(_signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    click.echo("\nCtrl-C stops it, and every notebook server with it.")
    try:
        while True:
            time.sleep(1)
            if supervisor.supervisor_pid(runtime.layout) is None:
                if (runtime.layout.run / "stopped").exists():
                    return
                click.echo("The supervisor is gone; starting it again. Notebook servers go on.")
                supervisor.end_running(runtime.layout)
                start(runtime)
    except KeyboardInterrupt:
        click.echo("\nStopping …")
        halt(runtime)


def halt(runtime: Runtime) -> None:
    """Stop everything, user programs included."""
    (runtime.layout.run / "stopped").touch()
    supervisor.stop(runtime)
    _free_gpus(runtime)
    click.echo("Stopped.")


def _free_gpus(runtime: Runtime) -> None:
    """A facility that is stopped holds no part of a GPU."""
    if not any(pool.actuator == "nvml" for pool in runtime.facility.gpu.pools.values()):
        return
    from specola.server.gpus import free_slices

    owner = runtime.layout.state.stat()
    with acting_as(owner.st_uid, owner.st_gid):
        for why in asyncio.run(free_slices(runtime)):
            click.echo(f"Slices are left on GPUs of the pool {why}", err=True)


@click.command()
@STATE
def stop(state: Path) -> None:
    """Stop the facility, and everything that it started for people."""
    layout = Layout(state.absolute())
    if not addresses_file(layout).exists():
        click.echo(f"There is no facility in {state}.")
        return
    halt(load_runtime(layout))


@click.command()
@FACILITY
@STATE
def restart(facility: Path | None, state: Path) -> None:
    """Restart the facility's processes, with a changed facility file if given; what people run goes on."""
    layout = Layout(state.absolute())
    if supervisor.supervisor_pid(layout) is None:
        raise StateError("it is not up: start it with `specola up`")
    runtime = prepare(Wish(state, facility), Path(sys.prefix))
    supervisor.restart(runtime)
    supervisor.wait_ready(runtime, lambda name, seconds: click.echo(f"  ✓ {name:14} {seconds:5.1f} s"))
    show(runtime)


@click.command()
@STATE
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(state: Path, *, as_json: bool) -> None:
    """Say which processes answer, and how much people run."""
    layout = Layout(state.absolute())
    facts: dict[str, Any] = {"supervisor": supervisor.supervisor_pid(layout), "processes": {}, "programs": None}
    if addresses_file(layout).exists():
        runtime = load_runtime(layout)
        pids = {one.name: one.process.pid for one in supervisor.running(layout)}
        facts["url"] = runtime.public_url
        facts["processes"] = {
            process.name: {"pid": pids.get(process.name), "answers": supervisor.healthy(process)}
            for process in table(runtime)
        }
        facts["programs"] = programs(layout)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    for name, one in facts["processes"].items():
        click.echo(f"  {'✓' if one['answers'] else '✗'} {name:14} pid {one['pid'] or '–'}")
    if facts["programs"]:
        click.echo(f"People run {', '.join(f'{number} × {what}' for what, number in facts['programs'].items())}.")
    if facts["supervisor"] is None:
        click.echo("It is not up.")
        sys.exit(1)


def programs(layout: Layout) -> dict[str, int] | None:
    """How many of each kind the launcher runs for people; None when it does not answer, or not to this account."""
    try:
        keys = asyncio.run(Launcher(layout.launcher_socket, wait=0.5).keys())
    except (OSError, SpecolaError):
        return None
    found = Counter(next((words for start, words in KINDS.items() if key.startswith(start)), "other") for key in keys)
    return dict(sorted(found.items()))
