"""The accounts of people on this machine: made on first use, and what each needs to start a program.

Only the launcher (and `specola reset`) uses this; everybody else asks the launcher.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
import subprocess
import time
from pathlib import Path
from typing import Protocol

from specola.core.accounts import (
    FIRST_UID,
    Account,
    Entry,
    Ledger,
    account_exists,
    check_person,
    group_exists,
    runtime_base,
    slug,
    uid_is_used,
)
from specola.core.errors import SpecolaError
from specola.core.layout import Layout
from specola.core.quota import HomeQuota
from specola.core.rights import as_account

GROUP = "specola-users"
COMMENT = "Specola person"
SERVICE_COMMENT = "Specola facility"
PRIVATE = 0o700
ROOM = 1 << 20
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class People(Protocol):
    """Who a person is on this machine."""

    separate: bool

    async def account(self, person: str) -> Account:
        """The account of a person, ready for use; not asked twice at once for the same one."""


class OneAccount:
    """Everybody is the account that Specola itself runs as; homes are still one directory a person."""

    separate = False

    def __init__(self, layout: Layout, homes: Path) -> None:
        self._homes = homes
        self._runtime = runtime_base(layout, os.getuid())

    async def account(self, person: str) -> Account:
        """The invoking account with the person's own home."""
        name = slug(check_person(person))
        account = Account(_own_name(), os.getuid(), os.getgid(), self._homes / name, self._runtime / name)
        self._homes.mkdir(parents=True, exist_ok=True)
        _private_base(self._runtime, 0o700)
        for path in (account.home, account.runtime):
            make_directory(path, account.uid, account.gid)
        furnish(account)
        return account


def _own_name() -> str:
    """The name of the invoking account; its uid where it has none, as in some containers."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


class SeparateAccounts:
    """Each person has an unprivileged account of their own; needs root."""

    separate = True

    def __init__(self, layout: Layout, homes: Path, ledger: Ledger, quota: HomeQuota | None = None) -> None:
        self._state = layout.id
        self._homes = homes
        self._ledger = ledger
        self._quota = quota
        self._runtime = runtime_base(layout, 0)

    async def account(self, person: str) -> Account:
        """The person's account, made now if there is none; an account that is not ours is never taken."""
        check_person(person)
        with self._ledger.locked() as ledger:
            entry = ledger.find(self._state, person) or ledger.intend(self._state, person, self._homes)
            ensure_account(entry)
            if entry.created is None:
                entry = ledger.created(entry)
        home = Path(entry.home)
        account = Account(entry.account, entry.uid, entry.gid, home, self._runtime / slug(person))
        check_homes(home.parent)
        for path in (self._runtime.parent, self._runtime):
            _private_base(path, 0o711)
        for path in (account.home, account.runtime):
            make_directory(path, account.uid, account.gid)
        if self._quota is not None:
            self._quota.hold(account.home, account.uid)
        await as_account(account, lambda: furnish(account))
        return account


def ensure_account(entry: Entry) -> None:
    """Make the account that an entry of the ledger names, or check that it is as we made it."""
    if account_exists(entry.account):
        known = pwd.getpwnam(entry.account)
        if known.pw_uid != entry.uid or known.pw_gecos != COMMENT or known.pw_uid < FIRST_UID:
            raise SpecolaError(f"the account {entry.account} is not the one that Specola made: it was changed outside")
        return
    if not group_exists(GROUP):
        _tool("groupadd", "--system", "--force", GROUP)
    if not group_exists(entry.account):
        if uid_is_used(entry.uid):
            raise SpecolaError(f"the uid {entry.uid} of {entry.account} was taken by another account or group")
        _tool("groupadd", "--gid", str(entry.gid), entry.account)
    elif grp.getgrnam(entry.account).gr_gid != entry.gid:
        raise SpecolaError(f"the group {entry.account} is not the one that Specola made")
    # --system: no subordinate uids, no mail spool. nologin: neither su, cron nor sshd opens it; terminals use $SHELL
    options = ["--system", "--no-create-home", "--home-dir", entry.home, "--shell", "/usr/sbin/nologin"]
    numbers = ["--uid", str(entry.uid), "--gid", str(entry.gid), "--groups", GROUP]
    _tool("useradd", *options, *numbers, "--comment", COMMENT, entry.account)


def remove_account(entry: Entry) -> None:
    """Remove what `ensure_account` made, and nothing that only has its name."""
    if account_exists(entry.account):
        known = pwd.getpwnam(entry.account)
        if known.pw_uid != entry.uid or known.pw_gecos != COMMENT:
            raise SpecolaError(f"the account {entry.account} is not the one that Specola made; left alone")
        _tool("userdel", entry.account)
    if group_exists(entry.account):
        _tool("groupdel", entry.account)


def remove_service_account(name: str) -> None:
    """Remove an account or group that all facilities of a machine share."""
    if name == GROUP:
        _tool("groupdel", GROUP)
        return
    _tool("userdel", name)
    if group_exists(name):
        _tool("groupdel", name)


def _tool(*argv: str) -> None:
    """Run a tool of Debian's `passwd`; another one that holds the lock of /etc/passwd is waited for."""
    limit = time.monotonic() + 20
    while True:
        done = subprocess.run(
            argv,
            check=False,
            capture_output=True,
            text=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        )
        if done.returncode == 0:
            return
        if "lock" not in done.stderr or time.monotonic() > limit:
            raise SpecolaError(f"{argv[0]} failed: {done.stderr.strip()}")
        time.sleep(0.1)


def _private_base(path: Path, mode: int) -> None:
    """A directory of ours in a place where others may write too."""
    path.mkdir(mode=mode, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise SpecolaError(f"{path} belongs to somebody else, or is a link: remove it")
    path.chmod(mode)


def make_run_directory(path: Path) -> None:
    """The directory of the launcher's socket and records: everybody may pass, only we may write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _private_base(path, 0o711)


def check_homes(homes: Path) -> None:
    """Homes are made by root: the directory above them must be root's alone."""
    try:
        found = homes.lstat()
    except FileNotFoundError:
        homes.mkdir(mode=0o711, parents=True)
        homes.chmod(0o711)
        return
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise SpecolaError(f"{homes} must be a directory of root that nobody else may write")


def make_directory(path: Path, uid: int, gid: int) -> None:
    """Make a 0700 directory for an account; links and what belongs to others are refused.

    Its parent is ours alone, so that nobody can exchange what was checked.
    """
    above = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        made = True
        try:
            os.mkdir(path.name, 0o700, dir_fd=above)
        except FileExistsError:
            made = False
        try:
            here = os.open(path.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
        except OSError:
            raise SpecolaError(f"{path} is not a directory: remove it") from None
        try:
            _own(path, here, uid, gid, made=made)
        finally:
            os.close(here)
    finally:
        os.close(above)


def _own(path: Path, here: int, uid: int, gid: int, *, made: bool) -> None:
    found = os.fstat(here)
    # made by us and then killed before the chown: empty, and root's
    unfinished = found.st_uid == os.getuid() and not os.listdir(here)
    if found.st_uid != uid and not (made or unfinished):
        raise SpecolaError(f"{path} belongs to somebody else: move it away")
    if found.st_uid != uid:
        os.fchown(here, uid, gid)
    if stat.S_IMODE(found.st_mode) != PRIVATE:
        os.fchmod(here, PRIVATE)


def furnish(account: Account) -> None:
    """What a program expects in a home; runs as the account. A home without room left is no obstacle."""
    for name in ("run", "keys", "files", "tmp", "ipython", "config", "data"):
        (account.runtime / name).mkdir(mode=0o700, exist_ok=True)
    try:
        (account.home / ".tmp").mkdir(mode=0o700, exist_ok=True)
        _link(account.home / ".run", account.runtime / "run")
        _link(account.home / ".specola", account.runtime / "keys")
    except OSError as error:
        if error.errno not in FULL:
            raise


def _link(link: Path, target: Path) -> None:
    """Point a link of ours at the private directory; something else of that name is the person's own affair."""
    if link.is_symlink() and link.readlink() != target:
        link.unlink()
    if not os.path.lexists(link):
        link.symlink_to(target)


def has_room(account: Account) -> str:  # pragma: no cover - in children; tests/spawner/test_full_home.py
    """`yes` when something can still be written into a home, else empty; runs as the account."""
    probe = account.home / ".tmp" / ".room"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        probe.unlink(missing_ok=True)
        with os.fdopen(os.open(probe, flags, 0o600), "wb") as file:
            file.write(bytes(ROOM))
    except OSError:
        # also where the owner has put something else there: programs then get the runtime directory
        return ""
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return "yes"
