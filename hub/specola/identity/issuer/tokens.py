"""The claims that INDIGO IAM would issue, signed."""

from __future__ import annotations

import time
import uuid
from typing import Any

from specola.identity.issuer.keys import SigningKey
from specola.identity.issuer.settings import IssuerSettings
from specola.identity.issuer.store import Person

ANY_AUDIENCE = "https://wlcg.cern.ch/jwt/v1/any"
ACCESS, IDENTITY = "at+jwt", "JWT"
URN = "urn:geant:specola.local:group:"


def person_claims(person: Person, scopes: set[str]) -> dict[str, Any]:
    """What userinfo and the id token say about a person, depending on the granted scopes."""
    claims: dict[str, Any] = {"sub": person.subject}
    if "profile" in scopes:
        given, _, family = person.full_name.partition(" ")
        claims |= {
            "name": person.full_name,
            "given_name": given,
            "family_name": family,
            "preferred_username": person.name,
            "organisation_name": "specola",
            "groups": list(person.groups),
        }
    if "email" in scopes:
        claims |= {"email": f"{person.name}@specola.invalid", "email_verified": False}
    if "wlcg.groups" in scopes:
        claims["wlcg.groups"] = [f"/{group}" for group in person.groups]
    if "entitlements" in scopes:
        claims["entitlements"] = [URN + group.replace("/", ":") for group in person.groups]
    return claims


class Mint:
    """Makes and reads the tokens of one issuer."""

    def __init__(self, settings: IssuerSettings, key: SigningKey) -> None:
        self._settings = settings
        self.key = key

    def access_token(self, person: Person, scope: str) -> str:
        """An access token of the WLCG profile 1.0."""
        claims = self._frame() | {
            "sub": person.subject,
            "aud": ANY_AUDIENCE,
            "client_id": self._settings.client_id,
            "scope": scope,
            "wlcg.ver": "1.0",
        }
        if "wlcg.groups" in scope.split():
            claims["wlcg.groups"] = [f"/{group}" for group in person.groups]
        return self.key.sign(claims, ACCESS)

    def id_token(self, person: Person, scope: str, nonce: str) -> str:
        """The id token for the client."""
        claims = self._frame() | person_claims(person, set(scope.split())) | {"aud": self._settings.client_id}
        return self.key.sign(claims | ({"nonce": nonce} if nonce else {}), IDENTITY)

    def read_access_token(self, token: str) -> dict[str, Any]:
        """The claims of a valid access token of this issuer; `jwt.PyJWTError` otherwise."""
        return self.key.verify(token, issuer=self._settings.issuer, audience=ANY_AUDIENCE, kind=ACCESS)

    def _frame(self) -> dict[str, Any]:
        now = int(time.time())
        life = self._settings.access_token_life
        return {"iss": self._settings.issuer, "iat": now, "nbf": now, "exp": now + life, "jti": str(uuid.uuid4())}
