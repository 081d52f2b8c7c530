"""From a person of the platform to an account of this machine.

*Person*: the login name, any text. *Slug*: at most 24 of `[a-z0-9-]`, different for different people.
*Account*: `sp-<slug>` when people are kept apart (root), else the account that everything runs as.

The ledger is what makes uids safe to hand out: it remembers every account that any facility of this machine ever
had, so that no uid is given twice and an account that we did not make is never taken for ours. An entry is written
before the account is made; whoever finds one without an account finishes the work with the same name and uid.
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import hashlib
import json
import os
import pwd
import re
import tempfile
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from specola.core.errors import BadInput, SpecolaError
from specola.core.files import replace_file
from specola.core.layout import ROOT_BASE, Layout

LEDGER = ROOT_BASE / "accounts.json"
PREFIX = "sp-"
FIRST_UID = 30_000
LAST_UID = 59_998
UNREACHABLE = 59_999
"""Nobody's, for ever: what acts for an account under it cannot be signalled by the account"""
MAX_SLUG = 24
MAX_PERSON = 255
SCHEMA = 1
_HASH = 8


@dataclass(frozen=True)
class Account:
    """Where a person's programs run: account, home, and a short private directory for sockets."""

    name: str
    uid: int
    gid: int
    home: Path
    runtime: Path


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_HASH]


def _hashed(text: str, digest: str) -> str:
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if unicodedata.category(c) != "Mn")
    words = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
    if not words[:1].isalpha():
        words = f"x-{words}"
    return f"{words[: MAX_SLUG - _HASH - 1].rstrip('-')}-{digest}"


def slug(text: str) -> str:
    """A short name for any text: unchanged where it is plain, else with a digest, so that no two are alike."""
    if re.fullmatch(rf"[a-z][a-z0-9]{{0,{MAX_SLUG - 1}}}", text):
        return text
    return _hashed(text, _digest(text))


def check_person(person: object) -> str:
    """The name of a person, or what is wrong with it."""
    if not isinstance(person, str) or not person:
        raise BadInput("A person is named by a text that is not empty")
    if len(person) > MAX_PERSON:
        raise BadInput(f"The name of a person has at most {MAX_PERSON} characters")
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in person):
        raise BadInput("The name of a person holds no control characters")
    return person


def runtime_base(layout: Layout, uid: int) -> Path:
    """Where the private directories lie: a short path (sockets allow 107 characters), outside every home's quota."""
    if uid == 0:
        return Path("/run/specola") / layout.id
    return Path(tempfile.gettempdir()) / f"specola-{uid}-{layout.id}"


@dataclass(frozen=True)
class Entry:
    """One account that a facility of this machine has or had."""

    state: str
    person: str
    account: str
    uid: int
    gid: int
    home: str
    intended: str
    created: str | None = None
    removed: str | None = None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Ledger:
    """Every account that was ever made on this machine; a 0600 file of root."""

    def __init__(self, path: Path = LEDGER) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self.states: dict[str, str] = {}

    @contextlib.contextmanager
    def locked(self) -> Iterator[Ledger]:
        """Read it, and keep every other process from it until the block ends."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._read()
            yield self
        finally:
            os.close(lock)

    def _read(self) -> None:
        try:
            content = json.loads(self.path.read_text())
        except FileNotFoundError:
            self.entries, self.states = [], {}
            return
        if content.get("schema") != SCHEMA:
            raise SpecolaError(
                f"{self.path} was written by another release of Specola (schema {content.get('schema')})"
            )
        self.entries = [Entry(**entry) for entry in content["accounts"]]
        self.states = dict(content["states"])

    def _write(self) -> None:
        content = {"schema": SCHEMA, "states": self.states, "accounts": [asdict(entry) for entry in self.entries]}
        replace_file(self.path, json.dumps(content, indent=1))

    def register(self, layout: Layout) -> None:
        """Note that a facility uses this machine."""
        if layout.id not in self.states:
            self.states[layout.id] = str(layout.state)
            self._write()

    def unregister(self, state: str) -> None:
        """Note that a facility is gone."""
        if self.states.pop(state, None) is not None:
            self._write()

    def others(self, state: str) -> list[str]:
        """The other facilities of this machine."""
        return [other for other in {*self.states, *(e.state for e in self.entries if not e.removed)} if other != state]

    def of_state(self, state: str) -> list[Entry]:
        """The accounts that one facility has now."""
        return [entry for entry in self.entries if entry.state == state and entry.removed is None]

    def find(self, state: str, person: str) -> Entry | None:
        """The account that a person has in a facility."""
        return next((entry for entry in self.of_state(state) if entry.person == person), None)

    def intend(self, state: str, person: str, homes: Path) -> Entry:
        """Write down, before anything is made, which name and uid a person will have."""
        name = next(name for name in _names(person, state) if self._is_free(name))
        uid = self._next_uid()
        home = str(homes / name.removeprefix(PREFIX))
        entry = Entry(state, person, name, uid, uid, home, intended=_now())
        self.entries.append(entry)
        self._write()
        return entry

    def created(self, entry: Entry) -> Entry:
        """Note that the account exists."""
        return self._replace(entry, replace(entry, created=_now()))

    def removed(self, entry: Entry) -> Entry:
        """Note that the account is gone; its uid stays used."""
        return self._replace(entry, replace(entry, removed=_now()))

    def _replace(self, old: Entry, new: Entry) -> Entry:
        self.entries[self.entries.index(old)] = new
        self._write()
        return new

    def _is_free(self, name: str) -> bool:
        ours = any(entry.account == name and entry.removed is None for entry in self.entries)
        return not (ours or account_exists(name) or group_exists(name))

    def _next_uid(self) -> int:
        highest = max((entry.uid for entry in self.entries), default=FIRST_UID - 1)
        for uid in range(highest + 1, LAST_UID + 1):
            if not uid_is_used(uid):
                return uid
        raise SpecolaError(f"no uid is left between {FIRST_UID} and {LAST_UID}")


def _names(person: str, state: str) -> Iterator[str]:
    """Names for a person's account, the plain one first."""
    yield PREFIX + slug(person)
    for turn in count():
        yield PREFIX + _hashed(person, _digest(person, state, str(turn)))


def account_exists(name: str) -> bool:
    """Whether this machine knows an account of that name."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def group_exists(name: str) -> bool:
    """Whether this machine knows a group of that name."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def uid_is_used(uid: int) -> bool:
    """Whether the number names an account or a group of this machine."""
    with contextlib.suppress(KeyError):
        pwd.getpwuid(uid)
        return True
    with contextlib.suppress(KeyError):
        grp.getgrgid(uid)
        return True
    return False
