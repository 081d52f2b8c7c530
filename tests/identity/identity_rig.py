"""Running issuers and hubs for the tests of identity."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
from running import free_port
from specola.core.layout import Layout
from specola.identity.issuer.accounts import ensure_logins
from specola.identity.issuer.app import build, serve
from specola.identity.issuer.handlers import Issuer
from specola.identity.issuer.settings import CLIENT_ID, SCOPES, IssuerSettings, directory
from specola.identity.model import DemoPerson

SECRET = "planted-client-secret-0001"
PEOPLE = (
    DemoPerson(name="anna", full_name="Anna Rossi", groups=("physics", "ml-infn/gpu")),
    DemoPerson(name="marco", full_name="Marco Bianchi", groups=("physics",)),
    DemoPerson(name="ugo", full_name="Ugo Neri", groups=("elsewhere",)),
)


def until(what: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


@dataclass
class RunningIssuer:
    """Our issuer on a thread of its own, with the passwords of its people."""

    layout: Layout
    settings: IssuerSettings
    port: int
    logins: dict[str, str] = field(default_factory=dict)
    issuer: Issuer | None = None

    @property
    def url(self) -> str:
        return self.settings.issuer

    def people(self, people: Sequence[DemoPerson]) -> None:
        """Declare other people, as a changed facility file does."""
        self.logins |= {one["username"]: one["password"] for one in ensure_logins(self.layout, people)}

    def start(self) -> None:
        started, holder = threading.Event(), {}

        async def main() -> None:
            stop = asyncio.Event()
            self.issuer = build(self.settings, directory(self.layout))
            server = serve(self.issuer, self.port)
            holder.update(stop=stop, loop=asyncio.get_running_loop())
            started.set()
            await stop.wait()
            server.stop()
            await server.close_all_connections()
            self.issuer.store.close()

        self._holder = holder
        self._thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
        self._thread.start()
        assert started.wait(60)

    def stop(self) -> None:
        self._holder["loop"].call_soon_threadsafe(self._holder["stop"].set)
        self._thread.join(60)


@contextmanager
def issuer_running(
    place: Path, redirect: str = "http://127.0.0.1:1/hub/oauth_callback", **more: Any
) -> Iterator[RunningIssuer]:
    state = place / "issuer-state"
    state.mkdir(mode=0o700, exist_ok=True)
    port = free_port()
    settings = IssuerSettings(
        issuer=f"http://127.0.0.1:{port}/services/issuer/", redirect_uris=(redirect,), client_secret=SECRET, **more
    )
    running = RunningIssuer(Layout(state), settings, port)
    running.people(PEOPLE)
    running.start()
    try:
        yield running
    finally:
        running.stop()


class Client:
    """A strict OAuth client and a browser in one, for the issuer's own protocol."""

    def __init__(self, issuer: RunningIssuer) -> None:
        self.issuer = issuer
        self.http = httpx.Client(base_url=issuer.url, follow_redirects=False, timeout=60)
        self.verifier = secrets.token_urlsafe(48)

    def query(self, **changes: str | None) -> str:
        digest = hashlib.sha256(self.verifier.encode()).digest()
        values: dict[str, str | None] = {
            "response_type": "code",
            "client_id": CLIENT_ID,
            "redirect_uri": self.issuer.settings.redirect_uris[0],
            "scope": " ".join(SCOPES),
            "state": "the-state",
            "nonce": "the-nonce",
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
        }
        return urlencode({name: value for name, value in (values | changes).items() if value is not None})

    def page(self, **changes: str | None) -> httpx.Response:
        return self.http.get(f"authorize?{self.query(**changes)}")

    def submit(
        self, name: str, password: str, *, form: str | None = None, origin: str | None = "", **changes: str | None
    ) -> httpx.Response:
        token = form_token(self.page(**changes).text) if form is None else form
        headers = {} if origin is None else {"Origin": origin or self.issuer.settings.origin}
        data = {"form": token, "username": name, "password": password}
        return self.http.post(f"authorize?{self.query(**changes)}", data=data, headers=headers)

    def code(self, name: str = "anna", **changes: str | None) -> str:
        answer = self.submit(name, self.issuer.logins[name], **changes)
        assert answer.status_code == 303, answer.text
        back = parse_qs(urlsplit(answer.headers["location"]).query)
        assert back["iss"] == [self.issuer.url]
        return back["code"][0]

    def token(self, auth: tuple[str, str] | None = (CLIENT_ID, SECRET), **form: str) -> httpx.Response:
        return self.http.post("token", data=form, auth=auth)

    def redeem(self, code: str, /, **changes: str) -> httpx.Response:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": self.verifier,
            "redirect_uri": self.issuer.settings.redirect_uris[0],
        }
        return self.token(**(form | changes))

    def refresh(self, token: str) -> httpx.Response:
        return self.token(grant_type="refresh_token", refresh_token=token)

    def userinfo(self, token: str) -> httpx.Response:
        return self.http.get("userinfo", headers={"Authorization": f"Bearer {token}"})

    def login(self, name: str = "anna", **changes: str | None) -> dict[str, Any]:
        answer = self.redeem(self.code(name, **changes))
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def form_token(page: str) -> str:
    found = re.search(r'name="form" value="([^"]+)"', page)
    assert found, page
    return unescape(found[1])
