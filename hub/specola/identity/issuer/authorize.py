"""Is an authorization request in order? Pure: RFC 6749 §4.1.1, OpenID Connect Core §3.1.2, RFC 7636."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from specola.identity.issuer.grants import CHALLENGE, Asked, OAuthError
from specola.identity.issuer.settings import SCOPES, IssuerSettings

LONGEST = 2048


class NoRedirect(Exception):
    """The request does not come from our client: say so on a page and never redirect."""


def read_request(arguments: Mapping[str, Sequence[str]], settings: IssuerSettings) -> Asked:
    """The request when it is in order; `OAuthError` for the client to hear, or `NoRedirect`."""
    redirect_uri = _one(arguments, "redirect_uri")
    if _one(arguments, "client_id") != settings.client_id:
        raise NoRedirect("This login page serves one client, and the request came from another.")
    if redirect_uri not in settings.redirect_uris:
        raise NoRedirect("The address to return to is not the registered one.")
    for values in arguments.values():
        if len(values) != 1 or len(values[0]) > LONGEST:
            raise OAuthError("invalid_request", "A parameter is repeated or too long.")
    if _one(arguments, "response_type") != "code":
        raise OAuthError("unsupported_response_type", "Only the authorization code flow is offered.")
    challenge = _one(arguments, "code_challenge")
    if _one(arguments, "code_challenge_method") != "S256" or not CHALLENGE.fullmatch(challenge):
        raise OAuthError("invalid_request", "PKCE with the method S256 is required.")
    if "none" in _one(arguments, "prompt").split():
        raise OAuthError("login_required", "This issuer keeps no login session: a page must be shown.")
    return Asked(redirect_uri, _scope(arguments), _one(arguments, "state"), challenge, _one(arguments, "nonce"))


def _scope(arguments: Mapping[str, Sequence[str]]) -> str:
    asked = _one(arguments, "scope").split()
    if "openid" not in asked:
        raise OAuthError("invalid_scope", "The scope 'openid' is required.")
    return " ".join(scope for scope in SCOPES if scope in asked)


def _one(arguments: Mapping[str, Sequence[str]], name: str) -> str:
    values = arguments.get(name, [])
    return values[0] if len(values) == 1 else ""
