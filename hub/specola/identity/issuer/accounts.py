"""The people of the embedded issuer and their passwords, which are made once."""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import argon2

from specola.core.files import read_regular, replace_file
from specola.core.layout import Layout
from specola.core.rights import acting_as
from specola.identity.issuer.settings import directory
from specola.identity.issuer.store import Store
from specola.identity.model import DemoPerson

LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
BLOCKS, BLOCK = 4, 4
DATABASE = "issuer.sqlite"

_HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
_NOBODY = _HASHER.hash("nobody")


def ensure_logins(
    layout: Layout, people: Sequence[DemoPerson], uid: int | None = None, gid: int | None = None
) -> list[dict[str, Any]]:
    """Make the issuer know exactly these people; answer and keep `{username, password, groups}` for each.

    Whoever is known keeps the password. Whoever is no longer named is disabled, which ends their sessions.
    Called as root, everything is done as `uid` and `gid`: root must not follow links in another's directory.
    """
    with acting_as(uid, gid):
        place = directory(layout)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = _kept_passwords(layout.demo_logins)
        store = Store(place / DATABASE)
        try:
            with store.transaction():
                logins = [_ensure(store, person, known.get(person.name)) for person in people]
                for name in set(store.names()) - {person.name for person in people}:
                    _disable(store, name)
                # Written before the commit: a password that nobody can read must not count.
                replace_file(layout.demo_logins, json.dumps(logins, indent=1) + "\n")
        finally:
            store.close()
    return logins


def check_password(stored: str | None, password: str) -> bool:
    """Whether the password is right; takes the same time when there is nobody of that name."""
    try:
        _HASHER.verify(stored or _NOBODY, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False
    return stored is not None


def make_password() -> str:
    """A random password that is easy to read aloud: four blocks of four, about 79 bits."""
    return "-".join("".join(secrets.choice(LETTERS) for _ in range(BLOCK)) for _ in range(BLOCKS))


def _ensure(store: Store, person: DemoPerson, password: str | None) -> dict[str, Any]:
    groups = json.dumps(person.groups)
    if store.person(person.name) is None:
        password = password or make_password()
        row = (person.name, str(uuid.uuid4()), person.full_name, groups, _HASHER.hash(password))
        store.run("INSERT INTO people VALUES (?, ?, ?, ?, ?, 1)", *row)
    else:
        store.run(
            "UPDATE people SET full_name = ?, groups = ?, enabled = 1 WHERE name = ?",
            *(person.full_name, groups, person.name),
        )
        if password is None:
            password = make_password()
            store.run("UPDATE people SET password = ? WHERE name = ?", _HASHER.hash(password), person.name)
    return {"username": person.name, "password": password, "groups": list(person.groups)}


def _disable(store: Store, name: str) -> None:
    store.run("UPDATE people SET enabled = 0 WHERE name = ?", name)
    store.run("UPDATE families SET revoked = 1 WHERE person = ?", name)


def _kept_passwords(path: Path) -> dict[str, str]:
    try:
        logins = json.loads(read_regular(path))
        return {login["username"]: login["password"] for login in logins}
    except (OSError, ValueError, KeyError, TypeError):
        # Half a file cannot be told from a wrong one: new passwords are made for everybody.
        return {}
