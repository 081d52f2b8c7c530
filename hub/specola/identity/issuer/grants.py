"""Codes and refresh tokens: the rules of RFC 6749, RFC 7636 (PKCE) and RFC 9700 (rotation).

Every login starts a *family*: the code and all refresh tokens that descend from it. A secret that is used twice
tells that two parties hold it, so the whole family is revoked. One exception: an answer may get lost on its way.
Whoever presents a refresh token again within a minute gets another successor, as long as nobody has used the
first one, which then stops working: there is never more than one live token in a family.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
import uuid
from dataclasses import dataclass
from typing import Any

from specola.identity.issuer.settings import IssuerSettings
from specola.identity.issuer.store import Person, Store, fingerprint
from specola.identity.issuer.tokens import Mint

VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


class OAuthError(Exception):
    """An error of RFC 6749 §5.2; the description never repeats what was sent."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(error)
        self.error = error
        self.description = description
        self.status = status


@dataclass(frozen=True)
class Asked:
    """An authorization request that was found to be in order."""

    redirect_uri: str
    scope: str
    state: str
    challenge: str
    nonce: str


class Grants:
    """Hands out codes, and tokens for codes and refresh tokens."""

    def __init__(self, settings: IssuerSettings, store: Store, mint: Mint) -> None:
        self._settings = settings
        self._store = store
        self._mint = mint

    def code(self, person: Person, asked: Asked) -> str:
        """A code that is good once, for one minute."""
        code, family = secrets.token_urlsafe(32), str(uuid.uuid4())
        expires = time.time() + self._settings.code_life
        with self._store.transaction():
            self._store.run(
                "INSERT INTO families VALUES (?, ?, ?, ?, ?, 0)",
                *(family, person.name, self._settings.client_id, asked.scope, asked.nonce),
            )
            self._store.run(
                "INSERT INTO codes VALUES (?, ?, ?, ?, ?, 0)",
                *(fingerprint(code), family, asked.redirect_uri, asked.challenge, expires),
            )
        return code

    def redeem_code(self, code: str, verifier: str, redirect_uri: str) -> dict[str, Any]:
        """The token answer for a code; `OAuthError` otherwise."""
        row = self._store.one("SELECT * FROM codes WHERE hash = ?", fingerprint(code))
        if row is None:
            raise _invalid_grant()
        if row["used"]:
            self._revoke(row["family"])
            raise _invalid_grant()
        with self._store.transaction():
            # Used up by a wrong verifier too: whoever holds a code without its verifier must not try again.
            self._store.run("UPDATE codes SET used = 1 WHERE hash = ?", row["hash"])
        fits = hmac.compare_digest(challenge_of(verifier), row["challenge"]) and redirect_uri == row["redirect"]
        if not fits or row["expires"] < time.time():
            raise _invalid_grant()
        return self._answer(row["family"], parent=None, first=True)

    def refresh(self, token: str) -> dict[str, Any]:
        """The token answer for a refresh token, with its successor; `OAuthError` otherwise."""
        now = time.time()
        row = self._store.one("SELECT * FROM refresh_tokens WHERE hash = ?", fingerprint(token))
        if row is None or row["expires"] < now:
            raise _invalid_grant()
        if row["used_at"] is not None and not self._answer_was_lost(row, now):
            self._revoke(row["family"])
            raise _invalid_grant()
        return self._answer(row["family"], parent=row["hash"])

    def _answer_was_lost(self, row: dict[str, Any], now: float) -> bool:
        if now - row["used_at"] > self._settings.lost_answer_grace:
            return False
        heir = self._store.one("SELECT used_at FROM refresh_tokens WHERE parent = ? AND used_at > 0", row["hash"])
        return heir is None

    def _answer(self, family_id: str, *, parent: str | None, first: bool = False) -> dict[str, Any]:
        family = self._store.one("SELECT * FROM families WHERE id = ?", family_id)
        person = None if family is None else self._store.person(family["person"])
        if family is None or family["revoked"] or person is None or not person.enabled:
            raise _invalid_grant()
        scope = str(family["scope"])
        answer: dict[str, Any] = {
            "access_token": self._mint.access_token(person, scope),
            "token_type": "Bearer",
            "expires_in": self._settings.access_token_life,
            "scope": scope,
            "id_token": self._mint.id_token(person, scope, family["nonce"] if first else ""),
        }
        if "offline_access" in scope.split():
            answer["refresh_token"] = self._successor(family_id, parent)
        return answer

    def _successor(self, family: str, parent: str | None) -> str:
        token, now = secrets.token_urlsafe(32), time.time()
        with self._store.transaction():
            if parent is not None:
                self._store.run("DELETE FROM refresh_tokens WHERE parent = ?", parent)
                # The first use counts: asking again does not stretch the grace.
                self._store.run("UPDATE refresh_tokens SET used_at = coalesce(used_at, ?) WHERE hash = ?", now, parent)
            self._store.run(
                "INSERT INTO refresh_tokens VALUES (?, ?, ?, ?, NULL)",
                *(fingerprint(token), family, parent, now + self._settings.refresh_life),
            )
        return token

    def _revoke(self, family: str) -> None:
        with self._store.transaction():
            self._store.run("UPDATE families SET revoked = 1 WHERE id = ?", family)


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a verifier; of a malformed one something that fits nothing."""
    if not VERIFIER.fullmatch(verifier):
        return ""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def _invalid_grant() -> OAuthError:
    return OAuthError("invalid_grant", "The code or refresh token is unknown, expired, revoked or used.")
