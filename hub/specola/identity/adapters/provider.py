"""The back channel to an OpenID Connect issuer (tested against our own, oidc-provider-mock 0.3.4 and IAM's documents).

Nothing here puts a token, a secret or a body of the issuer into an exception or a log line.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import jwt

from specola.identity.model import LOOPBACK, IdentitySettings

PAUSES = (0.2, 0.5, 1.0, 2.0)
TIMEOUT = 10.0
DISCOVERY_LIFE = 3600
JWKS_PAUSE = 30
LEEWAY = 30
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
ERRORS = (
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
)


class Unreachable(Exception):
    """The issuer does not answer, or answers that it cannot."""


class Untrusted(Exception):
    """The issuer's answer must not be believed; the text says why without repeating it."""


class Refused(Exception):
    """The token endpoint said no; `error` is the code of RFC 6749."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


class TokenExpired(Exception):
    """The access token is not accepted (any more)."""


@dataclass(frozen=True)
class Metadata:
    """What we use of a discovery document; the back channel's addresses are already those of this machine."""

    authorize: str
    token: str
    userinfo: str
    jwks: str
    basic: bool


class Provider:
    """One issuer, known by its discovery document, which is read when it is first needed."""

    def __init__(
        self,
        settings: IdentitySettings,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self._settings = settings
        self._pauses = pauses
        self._metadata: Metadata | None = None
        self._read_at = 0.0
        self._keys: list[jwt.PyJWK] = []
        self._keys_at = -float(JWKS_PAUSE)
        base = settings.back_channel or settings.issuer
        self._client = httpx.AsyncClient(
            timeout=TIMEOUT, transport=transport, trust_env=urlsplit(base).hostname not in LOOPBACK
        )

    async def metadata(self) -> Metadata:
        """The issuer's addresses; an old answer is used while the issuer is away."""
        if self._metadata is None or time.monotonic() - self._read_at > DISCOVERY_LIFE:
            try:
                self._metadata = await self._discover()
            except Unreachable:
                if self._metadata is None:
                    raise
            self._read_at = time.monotonic()
        return self._metadata

    async def redeem(self, code: str, verifier: str) -> dict[str, Any]:
        """Tokens for an authorization code. Sent once: an issuer revokes a code that comes twice."""
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
        return await self._tokens(form | {"redirect_uri": self._settings.callback_url}, tries_again=False)

    async def refresh(self, refresh_token: str) -> dict[str, Any]:
        """Tokens for a refresh token. Sent again when the answer got lost: waiting would not make that safer."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return await self._tokens(form, tries_again=True)

    async def userinfo(self, access_token: str) -> dict[str, Any]:
        """Who the bearer of the token is; `TokenExpired` when the issuer does not take it."""
        url = (await self.metadata()).userinfo
        answer = await self._send("GET", url, headers={"Authorization": f"Bearer {access_token}"})
        if answer.is_client_error:
            # 401 by RFC 6750; Authlib's server says 400. Only the token endpoint's word ends a session.
            raise TokenExpired
        document = _document(answer, "userinfo")
        if not isinstance(document.get("sub"), str):
            raise Untrusted("userinfo without a subject")
        return document

    async def identity(self, id_token: object, *, nonce: str | None = None) -> dict[str, Any]:
        """The claims of an id token that this issuer signed for this client; `Untrusted` otherwise."""
        if not isinstance(id_token, str):
            raise Untrusted("no id token")
        try:
            claims = await self._decode(id_token)
        except jwt.PyJWTError as error:
            raise Untrusted(f"id token: {type(error).__name__}") from None
        if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and claims.get("azp") != self._settings.client_id:
            raise Untrusted("id token for another party")
        if nonce is not None and claims.get("nonce") != nonce:
            raise Untrusted("id token of another login")
        return claims

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _discover(self) -> Metadata:
        issuer = self._settings.issuer
        url = self._back(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        document = _document(await self._send("GET", url), "discovery document")
        if document.get("issuer") != issuer:
            raise Untrusted("the discovery document names another issuer than the facility file; a slash counts")
        names = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri")
        for name in names:
            if not _is_url(document.get(name)):
                raise Untrusted(f"the discovery document has no usable {name}")
        authorize, token, userinfo, jwks = (str(document[name]) for name in names)
        methods = document.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        back = self._back
        return Metadata(authorize, back(token), back(userinfo), back(jwks), basic="client_secret_basic" in methods)

    def _back(self, url: str) -> str:
        """The address as this machine reaches it."""
        back, issuer = self._settings.back_channel, self._settings.issuer
        return back + url.removeprefix(issuer) if back and url.startswith(issuer) else url

    async def _tokens(self, form: dict[str, str], *, tries_again: bool) -> dict[str, Any]:
        metadata, settings = await self.metadata(), self._settings
        headers = {"Accept": "application/json"}
        auth: httpx.BasicAuth | None = None
        if metadata.basic:
            auth = httpx.BasicAuth(quote(settings.client_id, safe=""), quote(settings.client_secret, safe=""))
        else:
            form = form | {"client_id": settings.client_id, "client_secret": settings.client_secret}
        answer = await self._send(
            "POST", metadata.token, tries_again=tries_again, headers=headers, data=form, auth=auth
        )
        document = _document(answer, "token answer", errors=True)
        if answer.status_code != HTTPStatus.OK or "error" in document:
            error = document.get("error")
            raise Refused(str(error) if error in ERRORS else "invalid_request")
        if not isinstance(document.get("access_token"), str):
            raise Untrusted("token answer without an access token")
        if str(document.get("token_type", "")).lower() != "bearer":
            raise Untrusted("token answer of another type than bearer")
        return document

    async def _decode(self, token: str) -> dict[str, Any]:
        kid = jwt.get_unverified_header(token).get("kid")
        key = self._key(kid)
        if key is None and time.monotonic() - self._keys_at >= JWKS_PAUSE:
            await self._read_keys()
            key = self._key(kid)
        if key is None:
            raise Untrusted("id token signed with a key that the issuer does not publish")
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=list(ALGORITHMS),
            issuer=self._settings.issuer,
            audience=self._settings.client_id,
            leeway=LEEWAY,
            options={"require": ["exp", "iat", "iss", "sub", "aud"]},
        )
        return claims

    def _key(self, kid: object) -> jwt.PyJWK | None:
        if kid is None:
            return self._keys[0] if len(self._keys) == 1 else None
        return next((key for key in self._keys if key.key_id == kid), None)

    async def _read_keys(self) -> None:
        document = _document(await self._send("GET", (await self.metadata()).jwks), "key set")
        try:
            keys = jwt.PyJWKSet.from_dict(document).keys
        except (jwt.PyJWTError, AttributeError, TypeError):
            raise Untrusted("the key set cannot be read") from None
        self._keys = [key for key in keys if key.public_key_use in {None, "sig"} and key.algorithm_name in ALGORITHMS]
        self._keys_at = time.monotonic()

    async def _send(self, method: str, url: str, *, tries_again: bool = True, **kwargs: Any) -> httpx.Response:
        """An answer other than 5xx and 429, tried again for some seconds; `Unreachable` otherwise."""
        for pause in (*self._pauses, None):
            try:
                answer = await self._client.request(method, url, **kwargs)
            except httpx.ConnectError:
                reason, again = "no connection", True
            except httpx.HTTPError as error:
                reason, again = type(error).__name__, tries_again
            else:
                if not (answer.is_server_error or answer.status_code == HTTPStatus.TOO_MANY_REQUESTS):
                    return answer
                reason, again = f"status {answer.status_code}", tries_again
            if pause is None or not again:
                raise Unreachable(reason)
            await asyncio.sleep(pause)
        raise AssertionError  # pragma: no cover - the last pause is None


def _document(answer: httpx.Response, what: str, *, errors: bool = False) -> dict[str, Any]:
    if answer.status_code != HTTPStatus.OK and not errors:
        raise Unreachable(f"{what}: status {answer.status_code}")
    try:
        document = answer.json()
    except ValueError:
        document = None
    if not isinstance(document, Mapping):
        raise Untrusted(f"{what} is not a JSON object")
    return dict(document)


def _is_url(value: object) -> bool:
    return isinstance(value, str) and urlsplit(value).scheme in {"http", "https"} and bool(urlsplit(value).hostname)
