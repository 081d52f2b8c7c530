"""JupyterHub's API as the API service uses it.

Tested against JupyterHub 6.1.1. A hub that is being restarted is waited for, for `patience`
seconds; after that the caller gets `Unavailable`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict

from specola.core import log
from specola.core.errors import Conflict, Forbidden, NotFound, Unavailable

PAUSE = 0.25
PAGE = 200
QUICK = httpx.Timeout(10, connect=2)
# the hub keeps the request of a start or a stop open for ten seconds before it says "later"
SLOW = httpx.Timeout(40, connect=2)
IDLE_PROGRESS = httpx.Timeout(30, connect=2)


class HubServer(BaseModel):
    """A user server as the hub describes it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    ready: bool = False
    pending: str | None = None
    stopped: bool = False
    started: datetime | None = None
    last_activity: datetime | None = None
    url: str = ""
    progress_url: str = ""


class HubUser(BaseModel):
    """A person or a service as the hub describes them; scopes are those of the token that asked."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    kind: str = "user"
    admin: bool = False
    groups: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    token_id: str | None = None
    servers: dict[str, HubServer] = {}


class Hub:
    """Asks the hub with the service's token, or with somebody else's to learn who they are."""

    def __init__(
        self, api_url: str, token: str, *, patience: float = 3.0, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._token = log.secret(token)
        self._patience = patience
        self._http = httpx.AsyncClient(
            base_url=api_url.rstrip("/") + "/", timeout=QUICK, transport=transport, trust_env=False
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def owner_of(self, token: str) -> HubUser | None:
        """Whose token it is and what it may do; None when the hub does not know it."""
        answer = await self._ask("GET", "user", token=token)
        if answer.status_code in (401, 403):
            return None
        return HubUser.model_validate(self._good(answer).json())

    async def user(self, name: str) -> HubUser:
        """One person with their servers, stopped ones left out."""
        return HubUser.model_validate(self._good(await self._ask("GET", f"users/{_part(name)}")).json())

    async def active_users(self) -> list[HubUser]:
        """Everybody with a server that runs, starts or stops."""
        users: list[HubUser] = []
        while True:
            query = f"users?state=active&limit={PAGE}&offset={len(users)}"
            page = [HubUser.model_validate(u) for u in self._good(await self._ask("GET", query)).json()]
            users += page
            if len(page) < PAGE:
                return users

    async def start(self, name: str, server: str = "", options: Mapping[str, Any] | None = None) -> None:
        """Ask for a server; returns when it runs, or when the hub thinks that it takes long.

        The options are always said: of an empty body the hub would take those of the last start.
        """
        content = json.dumps({"user_options": dict(options or {})}).encode()
        answer = await self._ask("POST", _server(name, server), content=content, retry=False, timeout=SLOW)
        if answer.status_code == HTTPStatus.BAD_REQUEST and "already running" in answer.text:
            return
        if answer.status_code == HTTPStatus.FORBIDDEN and "scopes" not in answer.text:
            raise Forbidden("The server may not be started", _message(answer), reason="spawn_refused")
        if answer.status_code in (500, 504):
            raise Unavailable("The server could not be started", _message(answer), reason="spawn")
        self._good(answer)

    async def stop(self, name: str, server: str = "") -> bool:
        """Ask for a server's end; False when there is none that runs."""
        answer = await self._ask("DELETE", _server(name, server), content=b"{}", retry=False, timeout=SLOW)
        if answer.status_code == HTTPStatus.NOT_FOUND or (
            answer.status_code == HTTPStatus.BAD_REQUEST and "not running" in answer.text
        ):
            return False
        self._good(answer)
        return True

    async def progress(self, name: str, server: str = "") -> AsyncIterator[dict[str, Any]]:
        """What the hub says about a server that starts: `{progress, message, ready|failed}` each."""
        request = self._http.build_request(
            "GET",
            f"{_server(name, server)}/progress",
            headers={**self._headers(self._token), "Accept": "text/event-stream"},
            timeout=IDLE_PROGRESS,
        )
        try:
            answer = await self._http.send(request, stream=True)
            try:
                if answer.status_code != HTTPStatus.OK:
                    await answer.aread()
                    self._good(answer)
                async for line in answer.aiter_lines():
                    if line.startswith("data:"):
                        yield json.loads(line[5:])
            finally:
                await answer.aclose()
        except httpx.HTTPError:
            raise _unavailable() from None

    def _headers(self, token: str) -> dict[str, str]:
        return {"Authorization": f"token {token}", log.REQUEST_ID_HEADER: log.request_id.get() or log.new_request_id()}

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        content: bytes | None = None,
        retry: bool = True,
        timeout: httpx.Timeout | None = None,  # noqa: ASYNC109 - httpx's own kind, per phase
    ) -> httpx.Response:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                answer = await self._http.request(
                    method,
                    path,
                    headers=self._headers(token or self._token),
                    content=content,
                    timeout=timeout or QUICK,
                )
            except httpx.ConnectError:
                answer = None
            except httpx.HTTPError:
                # it may have been done: whoever changes something must look before asking again
                if not retry:
                    raise _unavailable() from None
                answer = None
            if answer is not None and answer.status_code not in (502, 503):
                return answer
            if time.monotonic() + PAUSE > deadline:
                raise _unavailable()
            await asyncio.sleep(PAUSE)

    @staticmethod
    def _good(answer: httpx.Response) -> httpx.Response:
        if answer.is_success:
            return answer
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise NotFound("There is no such person or server at the hub")
        if answer.status_code in (401, 403):
            raise Forbidden(
                "The hub does not let the API service do this",
                "Whoever operates the facility should look at the roles of the service `specola` at the hub.",
                reason="hub_refused",
            )
        if answer.status_code in (400, 409, 429):
            raise Conflict("The hub does not do this now", _message(answer), reason="hub_conflict")
        raise _unavailable()


def _message(answer: httpx.Response) -> str:
    """What the hub says to the person, for instance that a stop is under way."""
    try:
        return str(answer.json()["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return ""


def _part(name: str) -> str:
    """A name as one segment of a path; quoting leaves dots alone, and these two would name another path."""
    if name in {"", ".", ".."}:
        raise NotFound("There is no such person or server at the hub")
    return quote(name, safe="")


def _server(name: str, server: str) -> str:
    return f"users/{_part(name)}/servers/{_part(server)}" if server else f"users/{_part(name)}/server"


def _unavailable() -> Unavailable:
    return Unavailable(
        "The hub does not answer", "It is probably being restarted. Try again in a moment.", reason="hub"
    )
