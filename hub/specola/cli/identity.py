"""`specola identity`: who may log in, and who has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from specola.cli.run import STATE
from specola.cli.tables import AS_JSON, document, table
from specola.core.errors import StateError
from specola.core.layout import Layout
from specola.core.rights import acting_as
from specola.facility.model import Facility
from specola.facility.runtime import Runtime, load_runtime
from specola.identity.adapters.people import Known, People
from specola.identity.model import EmbeddedIdentity

MINUTES = "%Y-%m-%d %H:%M"


@click.group()
def identity() -> None:
    """Who may log in, and who has."""


@identity.command()
@STATE
@AS_JSON
def people(state: Path, *, as_json: bool) -> None:
    """List who has ever logged in, after saying who may; the facility need not be up."""
    runtime = load_runtime(Layout(state.absolute()))
    known = logged_in(runtime.layout)
    if as_json:
        document({**admission(runtime), "people": [_row(one) for one in known]})
        return
    for line in in_words(runtime):
        click.echo(line)
    if not known:
        click.echo("\nNobody has logged in yet.")
        return
    click.echo("\nHave logged in (UTC):")
    heads = ("name", "full name", "first", "last", "issuer")
    rows = [(p.name, p.full_name, f"{p.first_seen:{MINUTES}}", f"{p.last_seen:{MINUTES}}", p.issuer) for p in known]
    table(heads, rows)


def logged_in(layout: Layout) -> list[Known]:
    """The table of people, read as the account that it belongs to: SQLite may leave files beside it."""
    try:
        owner = layout.state.stat()
        with acting_as(owner.st_uid, owner.st_gid):
            return People(layout.database).everybody() if layout.database.exists() else []
    except OSError as error:
        raise StateError(f"cannot read {layout.database}: {error.strerror}") from None


def admission(runtime: Runtime) -> dict[str, Any]:
    """Who may log in, for programs."""
    facility = runtime.facility
    return {
        "issuer": issuer(runtime),
        "groups": [
            {"name": name, "roles": [role.value for role in group.roles], "members": list(group.members)}
            for name, group in facility.groups.items()
        ],
        "may_log_in": sorted(embedded(facility)) if facility.identity.kind == "embedded" else None,
    }


def in_words(runtime: Runtime) -> list[str]:
    """Who may log in, for people."""
    facility = runtime.facility
    lines = [f"May log in: whom {issuer(runtime)} knows, and who is in one of these groups"]
    for name, group in facility.groups.items():
        roster = f"; our roster: {', '.join(group.members)}" if group.members else ""
        lines.append(f"  {name}: {', '.join(group.roles)}{roster}")
    if facility.identity.kind == "embedded":
        lines.append(f"That is: {', '.join(sorted(embedded(facility))) or 'nobody'}.")
    return lines


def issuer(runtime: Runtime) -> str:
    """Where people prove who they are."""
    section = runtime.facility.identity
    return runtime.issuer_url if isinstance(section, EmbeddedIdentity) else section.issuer


def embedded(facility: Facility) -> set[str]:
    """People of the embedded issuer who are in a group of the facility, by their token or our roster."""
    section = facility.identity
    people = section.people if isinstance(section, EmbeddedIdentity) else ()
    rosters = {name for group in facility.groups.values() for name in group.members}
    return {one.name for one in people if one.name in rosters or set(one.groups) & set(facility.groups)}


def _row(one: Known) -> dict[str, str]:
    times = {"first_seen": one.first_seen.isoformat(), "last_seen": one.last_seen.isoformat()}
    return {"name": one.name, "full_name": one.full_name, "issuer": one.issuer, **times}
