"""`python -m specola.launcher [--state DIR] [--homes DIR] [--quota-gib N] [--ledger FILE] [--service-account NAME]`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import pwd
import signal
from dataclasses import dataclass
from pathlib import Path

from specola.core.accounts import LEDGER, Ledger
from specola.core.layout import SERVICE_ACCOUNT, Layout, layout_from_environment
from specola.core.people import OneAccount, People, SeparateAccounts, make_run_directory
from specola.core.quota import HomeQuota
from specola.launcher.limits import Limits
from specola.launcher.logs import Logs
from specola.launcher.programs import Programs
from specola.launcher.records import Records
from specola.launcher.server import Server, serve

log = logging.getLogger("specola.launcher")


@dataclass(frozen=True)
class Settings:
    """What root says on the command line; nothing comes from the facility's state."""

    layout: Layout
    homes: Path
    ledger: Path
    service_account: str
    quota_gib: float | None = None


def settings(arguments: list[str] | None = None) -> Settings:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="specola.launcher", description=__doc__)
    parser.add_argument("--state", type=Path, help="state directory of the facility (or SPECOLA_STATE)")
    parser.add_argument("--homes", type=Path, help="directory of the homes; beside the state when absent")
    parser.add_argument("--quota-gib", type=float, help="size that no home may grow beyond")
    parser.add_argument("--ledger", type=Path, default=LEDGER, help="where every account ever made is remembered")
    parser.add_argument("--service-account", default=SERVICE_ACCOUNT, help="the account that may ask")
    given = parser.parse_args(arguments)
    layout = Layout(given.state.absolute()) if given.state else layout_from_environment()
    return Settings(layout, given.homes or layout.homes, given.ledger, given.service_account, given.quota_gib)


def build(given: Settings) -> tuple[Server, Programs, tuple[int, int] | None]:
    """The launcher of a facility, and to whom its socket will belong."""
    layout, me = given.layout, os.geteuid()
    people: People
    owner: tuple[int, int] | None = None
    if me == 0:
        ledger = Ledger(given.ledger)
        with ledger.locked():
            ledger.register(layout)
        quota = None if given.quota_gib is None else HomeQuota(given.quota_gib)
        people = SeparateAccounts(layout, given.homes, ledger, quota)
        with contextlib.suppress(KeyError):
            service = pwd.getpwnam(given.service_account)
            owner = (service.pw_uid, service.pw_gid)
    else:
        people = OneAccount(layout, given.homes)
    make_run_directory(layout.run)
    programs = Programs(
        layout.id, people, Records(layout.run / "programs"), Logs(layout.run / "logs"), Limits(layout.id)
    )
    allowed = frozenset({0, me} | ({owner[0]} if owner else set()))
    return Server(programs, allowed), programs, owner


async def run(given: Settings) -> None:
    """Serve until told to stop; programs live on."""
    server, programs, owner = build(given)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGCHLD, programs.reap)
    listening = await serve(given.layout.launcher_socket, server, owner)
    log.info("listening on %s", given.layout.launcher_socket)
    tending = asyncio.create_task(programs.tend_for_ever())
    async with listening:
        await stop.wait()
    tending.cancel()


def main() -> None:
    """Entry point."""
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(run(settings()))


if __name__ == "__main__":
    main()
