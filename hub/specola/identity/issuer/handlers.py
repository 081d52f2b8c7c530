"""The issuer's endpoints, apart from the login page."""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_plus

import jwt
from tornado import web

from specola.identity.issuer.grants import Grants, OAuthError
from specola.identity.issuer.keys import ALGORITHM
from specola.identity.issuer.limiter import Limiter
from specola.identity.issuer.settings import SCOPES, IssuerSettings
from specola.identity.issuer.store import Store
from specola.identity.issuer.tokens import Mint, person_claims

log = logging.getLogger("specola.issuer")

HEADERS = {
    "Cache-Control": "no-store",
    "Pragma": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # `no-referrer` would make browsers send `Origin: null` with the login form.
    "Referrer-Policy": "same-origin",
    # No form-action: Chromium applies it to every redirect after the form, and the way back to a server
    # on a subdomain of its own cannot be listed.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(frozen=True)
class Issuer:
    """What every handler works with."""

    settings: IssuerSettings
    store: Store
    mint: Mint
    grants: Grants
    limiter: Limiter


class Handler(web.RequestHandler):
    """Answers JSON, with the headers of a page that holds secrets, and errors as RFC 6749 wants them."""

    def initialize(self, issuer: Issuer) -> None:
        """Take the issuer from the route."""
        self.issuer = issuer

    def set_default_headers(self) -> None:
        """Nothing here may be cached, framed or sniffed."""
        self.clear_header("Server")
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """An OAuth error document; anything unexpected says `server_error` and nothing else."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, OAuthError):
            self.set_status(error.status)
            if error.status == HTTPStatus.UNAUTHORIZED:
                self.set_header("WWW-Authenticate", 'Basic realm="specola"')
            self.finish({"error": error.error, "error_description": error.description})
        else:
            ours = status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
            self.finish({"error": "server_error" if ours else "invalid_request"})

    def log_exception(self, *args: Any) -> None:
        """OAuth errors are answers, not accidents."""
        if not isinstance(args[1], OAuthError):
            super().log_exception(*args)

    def check_xsrf_cookie(self) -> None:
        """Endpoints for programs use no cookie; the login form has a check of its own."""


class Discovery(Handler):
    """`.well-known/openid-configuration`."""

    def get(self) -> None:
        """The provider's metadata."""
        base = self.issuer.settings.issuer
        self.finish(
            {
                "issuer": base,
                "authorization_endpoint": f"{base}authorize",
                "token_endpoint": f"{base}token",
                "userinfo_endpoint": f"{base}userinfo",
                "jwks_uri": f"{base}jwk",
                "scopes_supported": list(SCOPES),
                "response_types_supported": ["code"],
                "response_modes_supported": ["query"],
                "grant_types_supported": ["authorization_code", "refresh_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": [ALGORITHM],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": True,
            }
        )


class Jwks(Handler):
    """The public key."""

    def get(self) -> None:
        """The key set, of one key."""
        self.finish({"keys": [self.issuer.mint.key.jwk]})


class Health(Handler):
    """Whether the issuer can answer, its database included."""

    def get(self) -> None:
        """A look into the database."""
        self.issuer.store.names()
        self.finish({"status": "ok"})


class Token(Handler):
    """The token endpoint."""

    def post(self) -> None:
        """Tokens for a code or a refresh token."""
        self._check_client()
        kind = self._argument("grant_type")
        if kind == "authorization_code":
            verifier, redirect_uri = self._argument("code_verifier"), self._argument("redirect_uri")
            answer = self.issuer.grants.redeem_code(self._argument("code"), verifier, redirect_uri)
        elif kind == "refresh_token":
            answer = self.issuer.grants.refresh(self._argument("refresh_token"))
        else:
            raise OAuthError("unsupported_grant_type", "Offered are authorization_code and refresh_token.")
        self.finish(answer)

    def _argument(self, name: str) -> str:
        values = self.get_body_arguments(name, strip=False)
        if len(values) != 1:
            raise OAuthError("invalid_request", f"The parameter {name} must be given once.")
        return str(values[0])

    def _check_client(self) -> None:
        name, secret = self._basic() or (self._only_body("client_id"), self._only_body("client_secret"))
        settings = self.issuer.settings
        right_name = hmac.compare_digest(name.encode(), settings.client_id.encode())
        right_secret = hmac.compare_digest(secret.encode(), settings.client_secret.encode())
        if not (right_name and right_secret):
            log.warning("token request with a wrong client or client secret from %s", self.request.remote_ip)
            raise OAuthError("invalid_client", "Unknown client, or wrong client secret.", HTTPStatus.UNAUTHORIZED)

    def _only_body(self, name: str) -> str:
        values = self.get_body_arguments(name, strip=False)
        return str(values[0]) if len(values) == 1 else ""

    def _basic(self) -> tuple[str, str] | None:
        scheme, _, value = self.request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        if self.get_body_arguments("client_secret"):
            raise OAuthError("invalid_request", "The client must use one way to authenticate.")
        try:
            name, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
        return unquote_plus(name), unquote_plus(secret)


class Userinfo(Handler):
    """Who the bearer of an access token is."""

    def get(self) -> None:
        """The claims that the token's scope allows."""
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        try:
            claims = self.issuer.mint.read_access_token(token if scheme.lower() == "bearer" else "")
        except jwt.PyJWTError:
            self._refuse()
            return
        person = self.issuer.store.person_of(claims["sub"])
        if person is None or not person.enabled:
            self._refuse()
            return
        self.finish(person_claims(person, set(str(claims["scope"]).split())))

    post = get

    def _refuse(self) -> None:
        self.set_status(HTTPStatus.UNAUTHORIZED)
        self.set_header("WWW-Authenticate", 'Bearer error="invalid_token"')
        self.finish({"error": "invalid_token", "error_description": "The access token is not valid (any more)."})


class NotFound(Handler):
    """Everything else."""

    def prepare(self) -> None:
        """404 for every method."""
        self.set_status(HTTPStatus.NOT_FOUND)
        self.finish({"error": "not_found"})
