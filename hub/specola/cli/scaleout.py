"""`specola scaleout`: who computes now, and the end of somebody's clusters."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click
import httpx

from specola.cli.run import STATE
from specola.cli.tables import AS_JSON, document, table
from specola.client.api import Api
from specola.core.errors import StateError
from specola.core.layout import Layout
from specola.facility.runtime import load_runtime

PEOPLE = "scaleout/people"


@click.group()
def scaleout() -> None:
    """Who computes; end somebody's clusters."""


@scaleout.command()
@STATE
@AS_JSON
def people(state: Path, *, as_json: bool) -> None:
    """List who has clusters now, and how many workers."""
    found = ask(state, "GET")["running"]
    if as_json:
        document({"people": found})
    elif found:
        table(("name", "clusters", "workers"), [(one["name"], one["clusters"], one["workers"]) for one in found])
    else:
        click.echo("Nobody has a cluster.")


@scaleout.command()
@click.argument("person")
@STATE
def stop(person: str, state: Path) -> None:
    """Stop every cluster of PERSON, a login name; their notebook server goes on."""
    ended = ask(state, "POST", {"name": person})["items"]
    click.echo(f"Told to stop: {', '.join(ended)}" if ended else f"{person} has no cluster.")


def ask(state: Path, method: str, body: dict[str, str] | None = None) -> dict[str, Any]:
    """The service's answer, asked with its own token: whoever can read the state may do everything anyway."""
    runtime = load_runtime(Layout(state.absolute()))
    try:
        token = runtime.layout.secret("service")
    except OSError as error:
        raise StateError(f"cannot read {runtime.layout.secrets / 'service'}: {error.strerror}") from None
    return asyncio.run(_ask(f"{runtime.service_url}api/v1/", token, method, body))


async def _ask(url: str, token: str, method: str, body: dict[str, str] | None) -> dict[str, Any]:
    # a transport of its own: no proxy of the environment may see the token
    async with Api(url, token, transport=httpx.AsyncHTTPTransport()) as api:
        return await api.ask(method, PEOPLE, body)
