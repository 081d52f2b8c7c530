"""The one connection from this server to the facility's service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp

from specola_lab.settings import Settings

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0


class Facility:
    """Sends requests with the server's own token; nothing else in this package reads that token."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._session: aiohttp.ClientSession | None = None

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        json: Any = None,
        endless: bool = False,
    ) -> Any:
        """An aiohttp request context for a path below the API; `endless` sets no limit on the whole answer."""
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)
        timeout = aiohttp.ClientTimeout(total=None if endless else ANSWER_SECONDS, sock_connect=CONNECT_SECONDS)
        return self._session.request(
            method,
            self.settings.api_url + path,
            headers={**(headers or {}), "Authorization": f"token {self.settings.token}"},
            data=body,
            json=json,
            allow_redirects=False,
            timeout=timeout,
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
