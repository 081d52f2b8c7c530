"""The login page of the embedded issuer.

Against forged logins: the form carries a token that is bound (HMAC) to a cookie of this browser *and* to the request
that it answers, and the browser must say that the form came from this origin.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tornado.template import Loader

from specola.identity.issuer.accounts import check_password
from specola.identity.issuer.authorize import NoRedirect, read_request
from specola.identity.issuer.grants import Asked, OAuthError
from specola.identity.issuer.handlers import Handler

log = logging.getLogger("specola.issuer")

COOKIE = "specola-login"
LONGEST_PASSWORD = 256
SHORTEST_COOKIE = 40
PAGES = Path(__file__).with_name("pages")
STYLE = (PAGES / "style.css").read_text()

# One at a time: argon2 is costly on purpose, and the hub beside us needs the other core.
_WORKER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="argon2")
_PAGES = Loader(str(PAGES))


class Style(Handler):
    """The style sheet of the login page: an own resource, so that the page needs no inline style."""

    def get(self) -> None:
        """The one style sheet."""
        self.set_header("Content-Type", "text/css; charset=utf-8")
        self.finish(STYLE)


class Authorize(Handler):
    """The authorization endpoint: shows the login page, and answers with a code."""

    def get(self) -> None:
        """Show the login page for a request that is in order."""
        self._with_request(self._page)

    async def post(self) -> None:
        """Check name and password; go back to the client with a code."""
        self._check_origin()
        self._with_request(self._check_form)
        if not self._finished:
            await self._log_in(read_request(self._query(), self.issuer.settings))

    async def _log_in(self, asked: Asked) -> None:
        name = self.get_body_argument("username", "")[:LONGEST_PASSWORD]
        password = self.get_body_argument("password", "", strip=False)[:LONGEST_PASSWORD]
        address, limiter = str(self.request.remote_ip), self.issuer.limiter
        wait = limiter.wait(name, address)
        if wait:
            self.set_header("Retry-After", str(wait))
            text = f"Too many wrong passwords for this name. Try again in {wait} seconds."
            self._page(asked, text, HTTPStatus.TOO_MANY_REQUESTS)
            return
        # Counted before the check, which takes time: parallel guesses must not slip through.
        limiter.wrong(name, address)
        stored = self.issuer.store.password_hash(name)
        right = await asyncio.get_running_loop().run_in_executor(_WORKER, check_password, stored, password)
        person = self.issuer.store.person(name)
        if not right or person is None:
            log.warning("wrong name or password from %s", address)
            self._page(asked, "Wrong name or password.", HTTPStatus.UNAUTHORIZED)
            return
        limiter.right(name, address)
        log.info("%s logged in", person.name)
        self._back(asked.redirect_uri, code=self.issuer.grants.code(person, asked), state=asked.state)

    def _with_request(self, then: Callable[[Asked], None]) -> None:
        """Go on with the request, or tell the client what is wrong with it, or show that on a page."""
        query = self._query()
        try:
            asked = read_request(query, self.issuer.settings)
        except NoRedirect as error:
            self._problem(str(error))
        except OAuthError as error:
            states = query.get("state", [])
            state = states[0] if len(states) == 1 else ""
            self._back(query["redirect_uri"][0], error=error.error, error_description=error.description, state=state)
        else:
            then(asked)

    def _query(self) -> dict[str, list[str]]:
        return {name: self.get_query_arguments(name, strip=False) for name in self.request.query_arguments}

    def _back(self, redirect_uri: str, **answer: str) -> None:
        # RFC 9207: the client hears who answered.
        answer = {name: value for name, value in answer.items() if value} | {"iss": self.issuer.settings.issuer}
        separator = "&" if "?" in redirect_uri else "?"
        self.set_status(HTTPStatus.SEE_OTHER)
        self.set_header("Location", f"{redirect_uri}{separator}{urlencode(answer)}")
        self.finish()

    def _check_origin(self) -> None:
        if self.request.headers.get("Origin") != self.issuer.settings.origin:
            raise OAuthError("access_denied", "The login form must come from this issuer.", HTTPStatus.FORBIDDEN)

    def _check_form(self, asked: Asked) -> None:
        given = self.get_body_argument("form", "")
        cookie = self.get_cookie(COOKIE, "")
        if not cookie or not hmac.compare_digest(given.encode(), self._form_token(cookie, asked).encode()):
            text = "This page was open for too long, or cookies are off. Please log in again."
            self._page(asked, text, HTTPStatus.FORBIDDEN)

    def _form_token(self, cookie: str, asked: Asked) -> str:
        bound = json.dumps(astuple(asked))
        return hmac.new(cookie.encode(), bound.encode(), hashlib.sha256).hexdigest()

    def _page(self, asked: Asked, problem: str = "", status: int = HTTPStatus.OK) -> None:
        cookie = self.get_cookie(COOKIE, "")
        if len(cookie) < SHORTEST_COOKIE:
            cookie = secrets.token_urlsafe(32)
            settings = self.issuer.settings
            secure = settings.issuer.startswith("https:")
            self.set_cookie(COOKIE, cookie, path=settings.prefix, httponly=True, secure=secure, samesite="Strict")
        self._show(
            "login.html",
            status,
            action=f"?{self.request.query}",
            form=self._form_token(cookie, asked),
            problem=problem,
            username=self.get_body_argument("username", "")[:LONGEST_PASSWORD],
        )

    def _problem(self, text: str) -> None:
        self._show("problem.html", HTTPStatus.BAD_REQUEST, problem=text)

    def _show(self, page: str, status: int, **values: Any) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(_PAGES.load(page).generate(**values))
