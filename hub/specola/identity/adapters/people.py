"""The people who have ever logged in, by issuer and subject (SQLAlchemy core; tested on SQLite 3.40)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine, NullPool, create_engine, event, insert, select, update
from sqlalchemy.exc import IntegrityError, OperationalError

from specola.core.errors import Forbidden
from specola.identity.people_table import METADATA, PEOPLE

BUSY_SECONDS = 10


@dataclass(frozen=True)
class Known:
    """Somebody who has logged in."""

    name: str
    full_name: str
    issuer: str
    first_seen: datetime
    last_seen: datetime


class AnotherPerson(Forbidden):
    """A login name that belongs to another subject, or a subject known under another name."""

    reason = "another_person"


class People:
    """Who is who: one name belongs to one subject of one issuer, for ever."""

    def __init__(self, database: Path) -> None:
        self._engine = _engine(database)
        try:
            METADATA.create_all(self._engine, checkfirst=True)
        except OperationalError:
            # The service's migrations were faster: the second look finds the table.
            METADATA.create_all(self._engine, checkfirst=True)

    def admit(self, *, issuer: str, subject: str, name: str, full_name: str) -> None:
        """Note that this person logs in; `AnotherPerson` when name and subject do not belong together."""
        now = datetime.now(UTC).replace(tzinfo=None)
        row = {"issuer": issuer, "subject": subject}
        try:
            with self._engine.begin() as connection:
                known = connection.scalar(select(PEOPLE.c.name).filter_by(**row))
                if known is None:
                    values = row | {"name": name, "full_name": full_name, "first_seen": now, "last_seen": now}
                    connection.execute(insert(PEOPLE).values(values))
                elif known == name:
                    change = update(PEOPLE).filter_by(**row).values(full_name=full_name, last_seen=now)
                    connection.execute(change)
                else:
                    raise _renamed()
        except IntegrityError:
            raise _taken() from None

    def full_name(self, name: str) -> str:
        """How the person with this login name is called; the login name of somebody unknown."""
        with self._engine.connect() as connection:
            found = connection.scalar(select(PEOPLE.c.full_name).filter_by(name=name))
        return found or name

    def everybody(self) -> list[Known]:
        """Who has ever logged in, by name; times are UTC."""
        columns = (PEOPLE.c.name, PEOPLE.c.full_name, PEOPLE.c.issuer, PEOPLE.c.first_seen, PEOPLE.c.last_seen)
        with self._engine.connect() as connection:
            rows = connection.execute(select(*columns).order_by(PEOPLE.c.name)).all()
        return [Known(r[0], r[1], r[2], r[3].replace(tzinfo=UTC), r[4].replace(tzinfo=UTC)) for r in rows]


def _engine(database: Path) -> Engine:
    engine = create_engine(f"sqlite:///{database}", poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def _wait_for_others(connection: object, _record: object) -> None:
        cursor = connection.cursor()  # type: ignore[attr-defined]
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
        cursor.close()

    return engine


def _taken() -> AnotherPerson:
    return AnotherPerson(
        "This login name belongs to somebody else.",
        "Another person has used the facility under your login name. Names are never handed on, because the "
        "files go with them. Tell the operator of this facility.",
    )


def _renamed() -> AnotherPerson:
    return AnotherPerson(
        "Your login name has changed.",
        "The facility knows you under another login name, and your files belong to that one. "
        "Tell the operator of this facility.",
    )
