"""The facility's own API, for programs: the command line, operators' scripts.

Answers are plain JSON objects as docs/api.md and `extension/openapi.json` describe them; a problem
document becomes the `PublicError` of its status.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self

import httpx

from specola.core import log
from specola.core.errors import (
    BadInput,
    Conflict,
    Forbidden,
    NotFound,
    PublicError,
    TooMuch,
    Unauthenticated,
    Unavailable,
)

_BY_STATUS: dict[int, type[PublicError]] = {
    kind.status: kind for kind in (BadInput, Unauthenticated, Forbidden, NotFound, Conflict, TooMuch, Unavailable)
}
Json = dict[str, Any]


class Api:
    """Asks as the owner of a hub token; use as an async context manager."""

    def __init__(self, url: str, token: str, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._http = httpx.AsyncClient(
            base_url=url.rstrip("/") + "/",
            headers={"Authorization": f"token {log.secret(token)}"},
            timeout=httpx.Timeout(30, connect=3),
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def me(self) -> Json:
        """Who am I, and what may I use."""
        return await self.ask("GET", "me")

    async def servers(self) -> list[Json]:
        """My servers."""
        return list((await self.ask("GET", "servers"))["items"])

    async def start_server(self, name: str = "") -> list[Json]:
        """Start a server of mine; the answer lists all of them."""
        return list((await self.ask("POST", "servers", {"name": name}))["items"])

    async def stop_server(self, name: str = "") -> list[Json]:
        """Stop a server of mine; the answer lists all of them."""
        return list((await self.ask("DELETE", "servers", query={"name": name}))["items"])

    async def ask(self, method: str, path: str, body: Json | None = None, query: dict[str, str] | None = None) -> Json:
        """One request; a POST that finds the connection broken is sent again with the same key."""
        headers = {log.REQUEST_ID_HEADER: log.request_id.get() or log.new_request_id()}
        if method == "POST":
            headers["Idempotency-Key"] = secrets.token_hex(12)
        for last in (False, True):
            try:
                answer = await self._http.request(method, path, headers=headers, json=body, params=query)
            except httpx.HTTPError:
                if last:
                    raise Unavailable("The facility does not answer", "Is it running? `specola status` says.") from None
            else:
                return _good(answer)
        raise AssertionError  # pragma: no cover - the loop returns or raises

    async def events(self, last_id: int | None = None) -> AsyncIterator[tuple[int, Json]]:
        """What happens to me, each with its id; ends when the service goes away, to be called again with that id."""
        headers = {"Accept": "text/event-stream"} | ({} if last_id is None else {"Last-Event-ID": str(last_id)})
        number = last_id or 0
        try:
            async with self._http.stream(
                "GET", "events", headers=headers, timeout=httpx.Timeout(40, connect=3)
            ) as answer:
                if answer.is_error:
                    await answer.aread()
                    _good(answer)
                async for line in answer.aiter_lines():
                    if line.startswith("id:"):
                        number = int(line[3:])
                    elif line.startswith("data:"):
                        yield number, json.loads(line[5:])
        except httpx.HTTPError:
            return


def _good(answer: httpx.Response) -> Json:
    if answer.is_success:
        return dict(answer.json()) if answer.content else {}
    try:
        problem = answer.json()
        title, detail, reason = str(problem["title"]), str(problem.get("detail", "")), str(problem["reason"])
    except (ValueError, KeyError, TypeError):
        raise Unavailable("The facility does not answer as expected", f"HTTP status {answer.status_code}.") from None
    raise _BY_STATUS.get(answer.status_code, PublicError)(title, detail, reason=reason)
