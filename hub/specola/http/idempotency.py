"""`Idempotency-Key`: the same request sent twice is done once and answered twice alike.

A key belongs to a person and a route and is kept for a day. The same key with another body is a
mistake of the caller; the same key while the first request still runs is told to wait.
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from specola.core.database import idempotency
from specola.core.errors import BadInput, Conflict

KEPT_SECONDS = 86400
_KEY = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True)
class Key:
    """One use of an idempotency key."""

    key: str
    person: str
    route: str
    digest: str


@dataclass(frozen=True)
class Kept:
    """An answer that was given before."""

    status: int
    body: str


def key_of(header: str, person: str, route: str, body: bytes) -> Key:
    """The key of a request; BadInput when the header is not one."""
    if not _KEY.fullmatch(header):
        raise BadInput("The header Idempotency-Key is not usable", "It holds 1 to 128 visible ASCII characters.")
    return Key(header, person, route, hashlib.sha256(body).hexdigest())


class Idempotency:
    """Keys and the answers that were given for them."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        with engine.begin() as connection:
            # what ran when the service was killed may be tried again: the features know what was done
            connection.execute(idempotency.delete().where(idempotency.c.status.is_(None)))

    def begin(self, key: Key) -> Kept | None:
        """Claim a key: None to go on, or the answer to repeat."""
        with self._engine.begin() as connection:
            connection.execute(idempotency.delete().where(idempotency.c.at < time.time() - KEPT_SECONDS))
        try:
            with self._engine.begin() as connection:
                connection.execute(idempotency.insert().values(**vars(key), body="", at=time.time()))
        except IntegrityError:
            return self._earlier(key)
        return None

    def done(self, key: Key, status: int, body: str) -> None:
        """Keep the answer."""
        with self._engine.begin() as connection:
            connection.execute(idempotency.update().where(_same(key)).values(status=status, body=body))

    def undone(self, key: Key) -> None:
        """Nothing was done: the same key may be tried again."""
        with self._engine.begin() as connection:
            connection.execute(idempotency.delete().where(_same(key)))

    def _earlier(self, key: Key) -> Kept:
        with self._engine.begin() as connection:
            row = connection.execute(idempotency.select().where(_same(key))).one_or_none()
        if row is None or row.status is None:
            raise Conflict("The first request with this key is still being done", "Ask again in a moment.")
        if row.digest != key.digest:
            raise Conflict("This idempotency key was used for another request", "Use a new key for a new request.")
        return Kept(row.status, row.body)


def _same(key: Key) -> sa.ColumnElement[bool]:
    columns = idempotency.c
    return sa.and_(columns.key == key.key, columns.person == key.person, columns.route == key.route)
