"""What a facility has left on this machine, and its removal: nothing that is not in this list is touched."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from specola.core import processinfo
from specola.core.accounts import LEDGER, Entry, Ledger, runtime_base
from specola.core.errors import SpecolaError
from specola.core.layout import SERVICE_ACCOUNT, Layout
from specola.core.people import GROUP, SERVICE_COMMENT, remove_account, remove_service_account
from specola.launcher.limits import Limits
from specola.launcher.programs import MARK

DOORS = "specola-gpu-"
KILL_WAIT = 10.0


@dataclass(frozen=True)
class Remains:
    """Everything that `specola reset` will end and remove, in this order."""

    programs: tuple[processinfo.Identity, ...]
    accounts: tuple[Entry, ...]
    shared: tuple[str, ...]
    """accounts and groups of the whole machine, where no other facility is left that uses them"""
    directories: tuple[Path, ...]
    homes: tuple[Path, ...] = ()
    """homes of people without accounts of their own, in a place that others may use too"""

    def lines(self) -> Iterator[str]:
        """The list for people."""
        for process in self.programs:
            yield f"process    {process.pid}  {_command(process.pid)}"
        for entry in self.accounts:
            yield f"account    {entry.account}  uid {entry.uid}  {entry.person}"
            yield f"home       {entry.home}"
        for name in self.shared:
            yield f"account    {name}"
        for path in self.homes:
            yield f"home       {path}"
        for path in self.directories:
            yield f"directory  {path}"


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:100].strip()
    return ""


def is_up(layout: Layout) -> bool:
    """Whether the facility's supervisor runs."""
    try:
        pid = int((layout.run / "supervisord.pid").read_text())
    except (OSError, ValueError):
        return False
    return "supervisord" in _command(pid)


def remains(layout: Layout, ledger: Ledger, homes: Path | None = None) -> Remains:
    """What is left of a facility, whose homes may lie elsewhere; needs to be asked as the one who started it."""
    root = os.geteuid() == 0
    accounts: tuple[Entry, ...] = ()
    shared: tuple[str, ...] = ()
    if root:
        with ledger.locked():
            accounts = tuple(ledger.of_state(layout.id))
            # only the machine's own ledger knows of every facility
            if ledger.path == LEDGER and not ledger.others(layout.id):
                shared = tuple(_shared())
    uids = {entry.uid for entry in accounts}
    own = () if root else (layout.homes,)
    places = (*own, runtime_base(layout, os.geteuid()), layout.state, layout.run, *_doors(layout))
    return Remains(
        programs=tuple(_programs(layout, uids)),
        accounts=accounts,
        shared=shared,
        directories=tuple(path for path in places if path.is_dir() and not path.is_symlink()),
        homes=() if root or homes in {None, layout.homes} else tuple(_homes_in(homes, layout)),
    )


def _doors(layout: Layout) -> Iterator[Path]:
    """Directories of simulated GPUs, which lie where every account may enter, if this facility's account made them."""
    owners = {os.geteuid()}
    with contextlib.suppress(KeyError):
        owners.add(pwd.getpwnam(SERVICE_ACCOUNT).pw_uid)
    for place in {Path("/tmp"), Path(tempfile.gettempdir())}:  # noqa: S108 - only looked for, never made
        for path in sorted(place.glob(f"{DOORS}{layout.id}-*")):
            with contextlib.suppress(FileNotFoundError):
                if path.lstat().st_uid in owners:
                    yield path


def _homes_in(place: Path, layout: Layout) -> Iterator[Path]:
    """Homes of this facility: ours, and with the link that each of them got to this facility's runtime directory."""
    runtime = runtime_base(layout, os.geteuid())
    with contextlib.suppress(OSError):
        for home in sorted(place.iterdir()):
            link = home / ".specola"
            ours = home.lstat().st_uid == os.geteuid() and not home.is_symlink() and link.is_symlink()
            if ours and link.readlink() == runtime / home.name / "keys":
                yield home


def _shared() -> Iterator[str]:
    with contextlib.suppress(KeyError):
        if pwd.getpwnam(SERVICE_ACCOUNT).pw_gecos == SERVICE_COMMENT:
            yield SERVICE_ACCOUNT
    with contextlib.suppress(KeyError):
        yield grp.getgrnam(GROUP).gr_name


def _programs(layout: Layout, uids: set[int]) -> Iterator[processinfo.Identity]:
    """Programs of these accounts, programs that the launcher started, and processes of the facility itself."""
    recorded = {one for place in (layout.run, layout.state) for _, one in processinfo.recorded(place / "pids")}
    for pid in processinfo.pids():
        process = processinfo.identity(pid)
        if process is None or pid == os.getpid():
            continue
        marked = (processinfo.variable(pid, MARK) or "").startswith(f"{layout.id}/")
        if processinfo.owner(pid) in uids or marked or process in recorded:
            yield process


def reset(layout: Layout, ledger: Ledger, found: Remains) -> None:
    """End and remove what was found; killed in between, it is simply asked again."""
    _end(found.programs)
    Limits(layout.id).remove_all()
    with ledger.locked() if os.geteuid() == 0 else contextlib.nullcontext():
        for entry in found.accounts:
            _end(tuple(filter(None, map(processinfo.identity, processinfo.of_account(entry.uid)))))
            remove_account(entry)
            _remove_home(entry)
            ledger.removed(entry)
        if os.geteuid() == 0:
            ledger.unregister(layout.id)
    for name in found.shared:
        remove_service_account(name)
    for path in (*found.homes, *found.directories):
        shutil.rmtree(path)
    with contextlib.suppress(OSError):
        layout.homes.rmdir()


def _remove_home(entry: Entry) -> None:
    home = Path(entry.home)
    with contextlib.suppress(FileNotFoundError):
        if home.is_symlink() or home.lstat().st_uid not in {0, entry.uid}:
            raise SpecolaError(f"{home} is not the home that Specola made; left alone")
        shutil.rmtree(home)


def _end(programs: tuple[processinfo.Identity, ...]) -> None:
    limit = time.monotonic() + KILL_WAIT
    while left := [process for process in programs if processinfo.alive(process)]:
        if time.monotonic() > limit:
            raise SpecolaError(f"process {left[0].pid} does not end")
        for process in left:
            processinfo.kill(process)
        time.sleep(0.05)
