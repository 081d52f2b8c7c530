"""The issuer's database: people, authorization codes and refresh tokens. Secrets are kept as hashes only."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS people (
    name TEXT PRIMARY KEY, subject TEXT NOT NULL UNIQUE, full_name TEXT NOT NULL, groups TEXT NOT NULL,
    password TEXT NOT NULL, enabled INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS families (
    id TEXT PRIMARY KEY, person TEXT NOT NULL, client TEXT NOT NULL, scope TEXT NOT NULL,
    nonce TEXT NOT NULL, revoked INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS codes (
    hash TEXT PRIMARY KEY, family TEXT NOT NULL, redirect TEXT NOT NULL, challenge TEXT NOT NULL,
    expires REAL NOT NULL, used INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS refresh_tokens (
    hash TEXT PRIMARY KEY, family TEXT NOT NULL, parent TEXT, expires REAL NOT NULL, used_at REAL);
CREATE INDEX IF NOT EXISTS refresh_parent ON refresh_tokens (parent);
"""
VERSION = 1


@dataclass(frozen=True)
class Person:
    """Somebody whom the issuer knows."""

    name: str
    subject: str
    full_name: str
    groups: tuple[str, ...]
    enabled: bool


def fingerprint(secret: str) -> str:
    """What is kept of a secret of ours: they are random enough for a plain hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Store:
    """One open database. Every change is one transaction that is on disk before it is answered."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=10)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(SCHEMA)
        self._db.execute(f"PRAGMA user_version={VERSION}")

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and nobody else writes meanwhile."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def run(self, statement: str, *values: object) -> None:
        """Execute one statement."""
        self._db.execute(statement, values)

    def one(self, query: str, *values: object) -> dict[str, Any] | None:
        """The first row of the answer, if there is one."""
        row = self._db.execute(query, values).fetchone()
        return None if row is None else dict(row)

    def person(self, name: str) -> Person | None:
        """Somebody by login name."""
        return _person(self.one("SELECT * FROM people WHERE name = ?", name))

    def person_of(self, subject: str) -> Person | None:
        """Somebody by subject."""
        return _person(self.one("SELECT * FROM people WHERE subject = ?", subject))

    def password_hash(self, name: str) -> str | None:
        """The argon2 hash of an enabled person's password."""
        row = self.one("SELECT password FROM people WHERE name = ? AND enabled", name)
        return None if row is None else str(row["password"])

    def names(self) -> list[str]:
        """Everybody, disabled people too."""
        return [row["name"] for row in self._db.execute("SELECT name FROM people ORDER BY name")]

    def purge(self, now: float) -> None:
        """Forget what has expired."""
        with self.transaction():
            self.run("DELETE FROM codes WHERE expires < ?", now - 3600)
            self.run("DELETE FROM refresh_tokens WHERE expires < ?", now)
            self.run(
                "DELETE FROM families WHERE id NOT IN (SELECT family FROM codes) "
                "AND id NOT IN (SELECT family FROM refresh_tokens)"
            )


def _person(row: dict[str, Any] | None) -> Person | None:
    if row is None:
        return None
    groups = tuple(json.loads(row["groups"]))
    return Person(row["name"], row["subject"], row["full_name"], groups, bool(row["enabled"]))
