"""Where the schedulers of this person's clusters can be reached: unix sockets in the own home.

A Dask dashboard has no login of its own. It therefore listens on no port at all, but on a socket in a
directory that only its owner can enter; the browser comes through this server, behind the hub's login.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,118}[a-z0-9])?")


def socket_of(home: Path, cluster: str) -> Path | None:
    """The socket of a cluster's scheduler; None when the name is not one or nothing lies there."""
    if not NAME.fullmatch(cluster):
        return None
    path = home / ".specola" / f"cluster.{cluster}.scheduler" / "http.sock"
    return path if path.is_socket() else None


def count(home: Path) -> int:
    """How many schedulers have a socket in this home."""
    return sum(1 for path in home.glob(".specola/cluster.*.scheduler/http.sock") if path.is_socket())


@asynccontextmanager
async def session(socket: Path, seconds: float | None = 30.0) -> AsyncIterator[aiohttp.ClientSession]:
    """A client whose every request goes to that socket."""
    # the kernel takes 107 bytes for the path of a socket, homes may be deeper
    directory = os.open(socket.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        async with aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=f"/proc/self/fd/{directory}/{socket.name}"),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=seconds),
            auto_decompress=False,
        ) as client:
            yield client
    finally:
        os.close(directory)
