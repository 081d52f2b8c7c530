"""`specola reset`: list and remove what a facility made on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from specola.cli.run import STATE
from specola.core.accounts import LEDGER, Ledger
from specola.core.errors import Conflict, SpecolaError
from specola.core.layout import Layout
from specola.facility.runtime import load_runtime
from specola.launcher.reset import is_up, remains
from specola.launcher.reset import reset as remove


@click.command()
@STATE
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only list.")
@click.option("--ledger", type=click.Path(path_type=Path, readable=False), default=LEDGER, hidden=True)
def reset(state: Path, ledger: Path, *, yes: bool, dry_run: bool) -> None:
    """List the accounts, homes and processes that a facility made on this machine, then remove them and its state."""
    layout = Layout(state.absolute())
    book = Ledger(ledger)
    if is_up(layout):
        raise Conflict("The facility is up", f"Stop it first: specola stop --state {layout.state}")
    found = remains(layout, book, homes_of(layout))
    lines = list(found.lines())
    if not lines:
        click.echo(f"Nothing is left of a facility with the state {layout.state}")
        return
    for line in lines:
        click.echo(line)
    if dry_run:
        return
    if not yes:
        click.confirm("Remove all of this, people's files too?", abort=True)
    remove(layout, book, found)
    click.echo("Removed.")


def homes_of(layout: Layout) -> Path | None:
    """Where the facility file puts the homes; None when there is no facility file that can be used."""
    try:
        return load_runtime(layout).homes
    except (SpecolaError, ValueError):
        return None
