"""The hub's login and callback pages, on a small tornado application that stands for the hub."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fake_issuer import FakeIssuer, settings
from oauthenticator.oauth2 import OAuthCallbackHandler
from specola.identity.adapters import watch
from specola.identity.adapters.authenticator import SpecolaAuthenticator
from specola.identity.adapters.login_handlers import CallbackHandler, LoginHandler, nonce_of
from specola.identity.adapters.provider import Refused
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.web import Application, HTTPError


class Connection:
    """Enough of a connection for a handler that is never answered."""

    def set_close_callback(self, callback: Any) -> None:
        """Nobody closes it."""


def made(kind: type, authenticator: SpecolaAuthenticator, uri: str) -> Any:
    line = RequestStartLine("GET", uri, "HTTP/1.1")
    headers = HTTPHeaders({"Host": "hub.test"})
    request = HTTPServerRequest(connection=Connection(), headers=headers, start_line=line)  # type: ignore[arg-type]
    request.remote_ip = "127.0.0.1"
    values: dict[str, Any] = {
        "authenticator": authenticator,
        "log": logging.getLogger("hub"),
        "cookie_secret": b"x" * 32,
    }
    values |= {"csp_report_uri": "/csp", "hub": SimpleNamespace(base_url="/hub/")}
    return kind(Application([], **values), request)


@pytest.fixture
def authenticator(tmp_path: Path) -> SpecolaAuthenticator:
    one = SpecolaAuthenticator(settings=settings(tmp_path))
    one._provider = FakeIssuer().provider(one.settings)
    return one


async def test_the_redirect_has_pkce_and_a_nonce(
    authenticator: SpecolaAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nonce belongs to the state, which is in a signed cookie of the browser."""
    handler = made(LoginHandler, authenticator, "/hub/oauth_login")
    sent: list[str] = []
    monkeypatch.setattr(handler, "set_state_cookie", lambda value: None)
    monkeypatch.setattr(handler, "redirect", sent.append)
    await handler.get()
    query = {name: values[0] for name, values in parse_qs(urlsplit(sent[0]).query).items()}
    assert sent[0].startswith("https://iam.test/authorize?")
    assert query["code_challenge_method"] == "S256"
    assert query["nonce"] == nonce_of(query["state"])
    assert query["redirect_uri"] == "https://hub.test/hub/oauth_callback"


@pytest.mark.parametrize(("error", "text"), [("access_denied", "cancelled"), ("planted", "could not log you in")])
def test_an_error_is_said_in_our_own_words(authenticator: SpecolaAuthenticator, error: str, text: str) -> None:
    handler = made(CallbackHandler, authenticator, f"/hub/oauth_callback?error={error}&error_description=planted")
    with pytest.raises(HTTPError) as caught:
        handler.check_arguments()
    assert text in caught.value.get_message()
    assert "planted" not in caught.value.get_message()


@pytest.mark.parametrize(("issuer", "good"), [("", True), ("&iss=https://iam.test/", True), ("&iss=https://x/", False)])
def test_the_answer_must_be_of_our_issuer(
    authenticator: SpecolaAuthenticator, monkeypatch: pytest.MonkeyPatch, issuer: str, good: bool
) -> None:
    handler = made(CallbackHandler, authenticator, f"/hub/oauth_callback?code=c&state=s{issuer}")
    monkeypatch.setattr(handler, "check_state", lambda: None)
    if good:
        handler.check_arguments()
    else:
        with pytest.raises(HTTPError):
            handler.check_arguments()


def test_a_code_is_in_no_log_line(authenticator: SpecolaAuthenticator) -> None:
    handler = made(CallbackHandler, authenticator, "/hub/oauth_callback?code=planted&state=s")
    assert handler._request_summary() == "GET /hub/oauth_callback (127.0.0.1)"


async def test_the_watch_starts_with_the_hub(
    authenticator: SpecolaAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []

    def start(self: watch.Watch) -> None:
        started.append(self)

    monkeypatch.setattr(watch.Watch, "start", start)
    handlers = dict(authenticator.get_handlers(object()))
    assert handlers[r"/oauth_login"] is LoginHandler
    assert handlers[r"/oauth_callback"] is CallbackHandler
    assert started == [authenticator.watch]


class Person:
    """A user of the hub whose session the issuer has ended."""

    name = "anna"

    def __init__(self) -> None:
        facts = {"subject": "s-1", "confirmed": time.time()}
        self.state = {"access_token": "old", "refresh_token": "r", "expires_at": 0, "specola": facts}

    async def get_auth_state(self) -> dict[str, Any]:
        return self.state


async def test_a_login_waits_for_the_look_that_is_under_way(
    authenticator: SpecolaAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the look ends is the old session, never the one that was made meanwhile."""
    person, asked, answers, ended = Person(), asyncio.Event(), asyncio.Event(), []

    async def refresh(_token: str) -> None:
        asked.set()
        await answers.wait()
        raise Refused("invalid_grant")

    async def keep(_handler: Any, authenticated: dict[str, Any], _user: Any) -> None:
        person.state = authenticated["auth_state"]

    monkeypatch.setattr(authenticator._provider, "refresh", refresh)
    monkeypatch.setattr(OAuthCallbackHandler, "auth_to_user", keep)
    authenticator.watch = SimpleNamespace(revoke_soon=lambda _user, seen, _why: ended.append(seen["access_token"]))
    handler = made(CallbackHandler, authenticator, "/hub/oauth_callback?code=c&state=s")
    look = asyncio.ensure_future(authenticator.refresh_user(person))
    await asked.wait()
    login = asyncio.ensure_future(handler.auth_to_user({"name": "anna", "auth_state": {"access_token": "new"}}))
    await asyncio.sleep(0.01)
    answers.set()
    assert await look is False
    await login
    assert ended == ["old"]
    assert person.state == {"access_token": "new"}
