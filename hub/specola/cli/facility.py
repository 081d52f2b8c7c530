"""`specola check`, `render` and `doctor`: look at a facility without touching it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import yaml

from specola.core.errors import StateError
from specola.core.layout import Layout, default_base
from specola.facility import doctor as doctor_
from specola.facility import render as render_
from specola.facility.doctor.finding import Mark
from specola.facility.loader import load, load_text
from specola.facility.reference import reference
from specola.facility.runtime import Runtime

FILE = click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
STATE = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False, readable=False),
    default=lambda: default_base(root=os.geteuid() == 0, home=Path.home()) / "state",
    help="State directory.  [default: /var/lib/specola/state, or ~/.local/share/specola/state]",
)
COLOURS = {Mark.WELL: "green", Mark.ILL: "red", Mark.NOT_TRIED: "yellow"}


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def check(file: Path) -> None:
    """Say everything that is wrong with a facility file, or that it can be used."""
    facility = load(file)
    click.echo(
        f"{file}: {facility.name} can be used ({facility.identity.kind} identity, {len(facility.groups)} groups)"
    )


@click.command()
@click.argument("what", type=click.Choice(["config", "schema", "processes", "openapi", "reference"]))
@FILE
@STATE
def render(what: str, file: Path | None, state: Path) -> None:
    """Print what is derived from FILE, or from the facility that was last started.

    config: JupyterHub's configuration; processes: the process table; schema: JSON Schema of the file;
    reference: its keys in Markdown; openapi: the API. Secrets are printed as their names.
    """
    printers: dict[str, Callable[[], str]] = {
        "config": lambda: _yaml(render_.config(_runtime(file, state))),
        "processes": lambda: _yaml(render_.processes(_runtime(file, state))),
        "schema": lambda: _json(render_.schema()),
        "reference": lambda: reference(render_.schema()),
        "openapi": lambda: _json(_openapi()),
    }
    click.echo(printers[what](), nl=False)


@click.command()
@FILE
@STATE
def doctor(file: Path | None, state: Path) -> None:
    """Try each part of the facility in FILE, or of the one that was last started, and say what to do."""
    examined = asyncio.run(doctor_.examine(doctor_.patient(Layout(state.absolute()), file)))
    for part in examined:
        for number, finding in enumerate(part.findings):
            sign = click.style(finding.mark.value, fg=COLOURS[finding.mark])
            click.echo(f"{sign} {'' if number else part.name:14} {finding.text}")
            if finding.todo:
                click.echo(f"{'':16} → {finding.todo}")
    if any(part.ill for part in examined):
        sys.exit(1)


def _runtime(file: Path | None, state: Path) -> Runtime:
    layout = Layout(state.absolute())
    if file is not None:
        return render_.runtime_of(load(file), layout)
    try:
        there = layout.facility_file.exists()
    except OSError as error:
        raise StateError(f"cannot look into {layout.state}: {error.strerror}") from None
    return render_.runtime_of(load(layout.facility_file) if there else load_text("", "facility.yaml"), layout)


def _openapi() -> dict[str, Any]:
    from specola.server.openapi import openapi

    return openapi()


def _json(data: Any) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _yaml(data: Any) -> str:
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120))
