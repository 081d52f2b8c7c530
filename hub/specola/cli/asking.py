"""Who a command asks as: a person in their own server, or the operator who can read the state directory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click
import httpx

from specola.client.api import Api
from specola.core.errors import StateError
from specola.core.layout import Layout, default_base
from specola.facility.prepare import is_root
from specola.facility.runtime import load_runtime

URL, TOKEN = "SPECOLA_API_URL", "JUPYTERHUB_API_TOKEN"
"""in the environment of every server; whoever sets them elsewhere asks as the owner of that token"""
T = TypeVar("T")

STATE = click.option(
    "--state",
    type=click.Path(path_type=Path),
    help=f"State directory, to ask as the operator.  [default: as {TOKEN} says, else that of this machine]",
)


def ask(state: Path | None, use: Callable[[Api], Coroutine[Any, Any, T]]) -> T:
    """What comes of some requests, as the person of this server or as the facility itself."""
    return asyncio.run(_with(*_address(state), use))


def is_person(state: Path | None) -> bool:
    """Whether a person asks with their own token."""
    return state is None and URL in os.environ and TOKEN in os.environ


def layout_of(state: Path | None) -> Layout:
    """The state that is meant when an operator asks."""
    return Layout((state or default_base(root=is_root(), home=Path.home()) / "state").absolute())


def _address(state: Path | None) -> tuple[str, str]:
    if is_person(state):
        return os.environ[URL], os.environ[TOKEN]
    runtime = load_runtime(layout_of(state))
    try:
        return f"{runtime.service_url}api/v1/", runtime.layout.secret("service")
    except OSError as error:
        raise StateError(f"cannot read {runtime.layout.secrets / 'service'}: {error.strerror}") from None


async def _with(url: str, token: str, use: Callable[[Api], Coroutine[Any, Any, T]]) -> T:
    # a transport of its own: no proxy of the environment may see the token
    async with Api(url, token, transport=httpx.AsyncHTTPTransport()) as api:
        return await use(api)
