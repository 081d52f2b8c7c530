"""`/servers`: the caller's own notebook servers."""

from __future__ import annotations

import re

from specola.core.errors import BadInput
from specola.core.scopes import SERVERS, SERVERS_WRITE
from specola.http.route import Caller, Request, Route
from specola.http.sse import Stream
from specola.servers.model import SERVER_NAME, Activity, NewServer, Servers
from specola.servers.service import ServersService

NAME = {"name": "which server; the default one when absent"}


def _which(request: Request) -> str:
    """The server that the query names."""
    name = request.query.get("name", "")
    if not re.fullmatch(SERVER_NAME, name):
        raise BadInput("No server can have this name", "It has letters, digits, `-`, `_`, and dots but for its start.")
    return name


def routes(service: ServersService) -> list[Route]:
    """The routes over one service."""

    async def mine(caller: Caller, _request: Request) -> Servers:
        return await service.mine(caller.name)

    async def start(caller: Caller, request: Request) -> Servers:
        wanted = request.read(NewServer)
        return await service.start(caller.name, wanted.name, wanted.gpu)

    async def stop(caller: Caller, request: Request) -> Servers:
        return await service.stop(caller.name, _which(request))

    async def progress(caller: Caller, request: Request) -> Stream:
        return Stream(service.progress(caller.name, _which(request)))

    async def activity(caller: Caller, request: Request) -> None:
        await service.report(caller.name, request.read(Activity))

    return [
        Route("GET", "/servers", SERVERS, mine, response=Servers, summary="My servers, and when they will be stopped"),
        Route(
            "POST",
            "/servers",
            SERVERS_WRITE,
            start,
            request=NewServer,
            response=Servers,
            status=202,
            summary="Start a server",
        ),
        Route(
            "DELETE", "/servers", SERVERS_WRITE, stop, response=Servers, status=202, summary="Stop a server", query=NAME
        ),
        Route(
            "GET", "/servers/progress", SERVERS, progress, stream=True, summary="A server's start in words", query=NAME
        ),
        Route(
            "POST",
            "/servers/activity",
            SERVERS_WRITE,
            activity,
            request=Activity,
            status=204,
            summary="What a server does",
        ),
    ]
