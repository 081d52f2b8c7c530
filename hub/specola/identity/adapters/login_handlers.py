"""The hub's two pages of a login (tested against oauthenticator 17.4, JupyterHub 6.1.1)."""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from typing import Any

from oauthenticator.oauth2 import OAuthCallbackHandler, OAuthLoginHandler
from tornado import web

from specola.identity.adapters.refused import RefusedPage

CANCELLED = "The login was cancelled. Start again from the facility's front page."
REFUSED = "The login service could not log you in. Try again; if it goes on, tell the operator of this facility."


def nonce_of(state: str) -> str:
    """The nonce that belongs to a login: the browser that started it holds the same state in a signed cookie."""
    return hashlib.sha256(f"nonce:{state}".encode()).hexdigest()


class LoginHandler(RefusedPage, OAuthLoginHandler):
    """Sends the browser to the issuer, once its discovery document is known."""

    async def get(self) -> None:
        """Redirect to the issuer; a clear page while it cannot be reached."""
        await self.authenticator.learn_endpoints()
        super().get()

    def authorize_redirect(self, *args: Any, extra_params: dict[str, Any], **kwargs: Any) -> None:
        """Ask for an id token that is bound to this login."""
        nonce = nonce_of(extra_params["state"])
        super().authorize_redirect(*args, extra_params=extra_params | {"nonce": nonce}, **kwargs)


class CallbackHandler(RefusedPage, OAuthCallbackHandler):
    """Takes the browser back from the issuer."""

    def _request_summary(self) -> str:
        """What tornado writes into the log about an error: without the query, which holds the code."""
        return f"{self.request.method} {self.request.path} ({self.request.remote_ip})"

    def check_error(self) -> None:
        """Say what happened in our own words: the query is anybody's text."""
        error = self.get_argument("error", "")
        if error:
            self.log.warning("The issuer sent a login back with an error")
            text = CANCELLED if error == "access_denied" else REFUSED
            raise web.HTTPError(HTTPStatus.FORBIDDEN, text)

    async def auth_to_user(self, authenticated: dict[str, Any], user: Any = None) -> Any:
        """Keep the new tokens once no look at the issuer is under way that may save or end the old ones."""
        async with self.authenticator.lock(authenticated["name"]):
            return await super().auth_to_user(authenticated, user)

    def check_arguments(self) -> None:
        """Also refuse an answer that names another issuer (RFC 9207)."""
        super().check_arguments()
        issuer = self.get_argument("iss", None)
        if issuer is not None and issuer != self.authenticator.settings.issuer:
            raise web.HTTPError(HTTPStatus.BAD_REQUEST, REFUSED)
