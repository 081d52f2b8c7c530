"""`/me`: who am I, and what may I use."""

from __future__ import annotations

from specola.core.scopes import IDENTITY
from specola.http.route import Caller, Request, Route
from specola.identity.service import IdentityService, Me


def routes(service: IdentityService) -> list[Route]:
    """The routes over one service."""

    async def me(caller: Caller, _request: Request) -> Me:
        return service.me(caller.name, caller.groups, caller.scopes)

    return [Route("GET", "/me", IDENTITY, me, response=Me, summary="Who am I, and what may I use and why")]
