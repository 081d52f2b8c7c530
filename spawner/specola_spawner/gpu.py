"""The GPU slice of a whole server: redeemed before it starts, confirmed when it is up, given back at its end.

A *grant* comes in `user_options`, which anybody may send to the hub for a server of theirs. It means nothing before the
API service has said, to us, whose it is and what it stands for; it is good once. The hub keeps the options of a start
for the next one, so a grant is taken out of them before it is tried.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import httpx
from specola.client.api import Api
from specola.core.errors import BadInput, Conflict, NotFound, PublicError, Unavailable
from specola.facility.runtime import Runtime

OPTION = "gpu"
SPENT = "gpu_spent"
"""left in the kept options where a grant was: the next start without one can say why it has no GPU"""
NO_GPU = {"NVIDIA_VISIBLE_DEVICES": "void", "CUDA_VISIBLE_DEVICES": ""}
LONGEST = 256
FIRST_PAUSE, LONGEST_PAUSE, GIVE_UP = 1.0, 60.0, 3600.0
log = logging.getLogger(__name__)
_returning: set[asyncio.Task[None]] = set()


@dataclass(frozen=True)
class Slice:
    """A lease that a server holds; `environment` is known while the server starts, and not needed later."""

    lease: str
    token: int
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    text: str = ""
    up: bool = False
    """the server has started"""
    confirmed: bool = False
    """the service knows that"""

    def kept(self) -> dict[str, Any]:
        """What the hub keeps of it."""
        return {"lease": self.lease, "token": self.token, "up": self.up, "confirmed": self.confirmed}

    @classmethod
    def of(cls, kept: Mapping[str, Any] | None) -> Self | None:
        """What an earlier hub has kept."""
        if not kept:
            return None
        return cls(kept["lease"], kept["token"], up=kept["up"], confirmed=kept["confirmed"])


def taken(options: Mapping[str, Any]) -> tuple[object, bool, dict[str, Any]]:
    """A grant if there is one, whether the start before had one, and the options that may be kept."""
    rest = {name: value for name, value in options.items() if name not in {OPTION, SPENT}}
    grant = options.get(OPTION)
    if grant is not None:
        rest[SPENT] = True
    return grant, bool(options.get(SPENT)), rest


class Leases:
    """The API service, asked with its own token, on loopback and through no proxy of the environment."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token

    @classmethod
    def of(cls, runtime: Runtime) -> Self:
        """Those of a running facility."""
        return cls(f"{runtime.service_url}api/v1/", runtime.layout.secret("service"))

    async def redeem(self, grant: object, person: str, server: str) -> Slice:
        """The slice that a grant stands for; PublicError says in words for the person why there is none."""
        if not isinstance(grant, str) or not 0 < len(grant) <= LONGEST:
            raise BadInput("What was sent is no grant of a GPU", "Ask for the GPU in the panel, and start from there.")
        body = {"grant": grant, "person": person, "server": server}
        try:
            answer = await self._ask("POST", "gpu/grants/redeem", body)
            environment = {str(name): str(value) for name, value in answer["environment"].items()}
            return Slice(str(answer["lease"]), int(answer["token"]), environment, str(answer.get("text", "")))
        except (Unavailable, KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning("no slice for %s: %s", person, error)
            raise Unavailable(
                "Your server was not started, because whoever hands out the GPUs does not answer",
                "Your slice is kept for you for a while: start again from the panel in a moment, or without a GPU.",
                reason="gpu",
            ) from None

    async def confirm(self, held: Slice) -> Slice:
        """Say that the server is up; Conflict or NotFound when the lease has ended, Unavailable to be asked again."""
        await self._ask("POST", f"gpu/leases/{held.lease}/confirm", {"token": held.token})
        return replace(held, confirmed=True)

    async def release(self, held: Slice) -> None:
        """Give it back; one that has ended already is fine."""
        try:
            await self._ask("DELETE", f"gpu/leases/{held.lease}", query={"token": str(held.token)})
        except (NotFound, Conflict):
            log.info("the lease %s had ended before it was given back", held.lease)

    async def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, query: dict[str, str] | None = None
    ) -> dict[str, Any]:
        async with Api(self._url, self._token, transport=httpx.AsyncHTTPTransport()) as api:
            return await api.ask(method, path, body, query)


def give_back(leases: Leases, held: Slice) -> asyncio.Task[None]:
    """Release in the background until it is done: no start and no stop waits for it.

    After an hour the service has found by itself that nothing runs.
    """
    task = asyncio.ensure_future(_until_given_back(leases, held))
    _returning.add(task)
    task.add_done_callback(_returning.discard)
    return task


async def _until_given_back(leases: Leases, held: Slice) -> None:
    pause, waited = FIRST_PAUSE, 0.0
    while True:
        try:
            await leases.release(held)
        except PublicError as error:
            if waited >= GIVE_UP:
                log.warning("the lease %s is left to the service: %s", held.lease, error)
                return
        else:
            return
        await asyncio.sleep(pause)
        waited += pause
        pause = min(2 * pause, LONGEST_PAUSE)
