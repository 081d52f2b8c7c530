"""dask-gateway's REST API, asked by the API service on behalf of a person.

A gateway that is being restarted is waited for, for `patience` seconds; after that `Unavailable`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Any
from urllib.parse import quote

import httpx

from specola.core import log
from specola.core.errors import Conflict, NotFound, PublicError, Unavailable
from specola.scaleout.adapters.for_service import CLUSTERS, PERSON
from specola.scaleout.adapters.gateway_auth import in_headers
from specola.scaleout.adapters.wire import REASON_HEADER, public_error
from specola.scaleout.cluster import OwnedCluster

API = "/api/v1/clusters/"
PAUSE = 0.25


class GatewayApi:
    """Asks with the service's secret; names the person and their groups in headers."""

    def __init__(
        self, url: str, token: str, *, patience: float = 3.0, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._token = log.secret(token)
        self._patience = patience
        self._http = httpx.AsyncClient(
            base_url=url, timeout=httpx.Timeout(20, connect=2), transport=transport, trust_env=False
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def clusters(self) -> list[OwnedCluster]:
        """Everybody's clusters."""
        answer = await self._ask("GET", CLUSTERS)
        return [OwnedCluster.model_validate(item) for item in answer.json()["items"]]

    async def create(self, person: str, groups: Collection[str], options: dict[str, Any]) -> str:
        """A new cluster of a person; its name. With the same `request` in the options it is the same one."""
        answer = await self._ask("POST", API, person, groups, json={"cluster_options": options})
        return str(answer.json()["name"])

    async def scale(self, person: str, groups: Collection[str], name: str, workers: int) -> None:
        """Ask for a fixed number of workers."""
        await self._ask("POST", f"{API}{name}/scale", person, groups, json={"count": workers})

    async def adapt(self, person: str, groups: Collection[str], name: str, minimum: int, maximum: int) -> None:
        """Let the number of workers follow the work."""
        body = {"minimum": minimum, "maximum": maximum, "active": True}
        await self._ask("POST", f"{API}{name}/adapt", person, groups, json=body)

    async def stop(self, person: str, groups: Collection[str], name: str) -> None:
        """End one cluster of a person."""
        await self._ask("DELETE", f"{API}{name}", person, groups)

    async def stop_all(self, person: str) -> list[str]:
        """End every cluster of a person; their names."""
        answer = await self._ask("DELETE", PERSON.format(person=quote(person, safe="")))
        return list(answer.json()["ended"])

    async def _ask(
        self, method: str, path: str, person: str = "", groups: Collection[str] = (), json: Any = None
    ) -> httpx.Response:
        headers = {
            "Authorization": f"token {self._token}",
            log.REQUEST_ID_HEADER: log.request_id.get() or log.new_request_id(),
        }
        if person:
            headers |= in_headers(person, groups)
        limit = time.monotonic() + self._patience
        while True:
            try:
                answer = await self._http.request(method, path, headers=headers, json=json)
            except httpx.ConnectError:
                # nothing was sent, so that even a POST may be asked again
                if time.monotonic() + PAUSE > limit:
                    raise _away() from None
                await asyncio.sleep(PAUSE)
            except httpx.HTTPError:
                raise _away() from None
            else:
                return _good(answer)


def _good(answer: httpx.Response) -> httpx.Response:
    if answer.status_code < 400:  # noqa: PLR2004 - HTTP
        return answer
    raise error_of(answer)


def error_of(answer: httpx.Response) -> PublicError:
    """What a refusal means: our own in its words, upstream's in ours."""
    try:
        text = str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        text = ""
    known = public_error(answer.headers.get(REASON_HEADER, ""), text)
    if known is not None:
        return known
    if answer.status_code in (403, 404):
        return NotFound("There is no such cluster of yours")
    if answer.status_code == 409:  # noqa: PLR2004 - HTTP
        return Conflict("The cluster does not run yet, or no longer", "Wait until it runs, or make a new one.")
    return _away()


def _away() -> Unavailable:
    return Unavailable(
        "The manager of Dask clusters does not answer",
        "It is probably being restarted; clusters go on computing. Try again in a moment.",
        reason="gateway",
    )
