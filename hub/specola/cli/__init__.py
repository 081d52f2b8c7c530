"""The command `specola`.

A command is imported when it is asked for: `specola check` needs nothing of what `specola up` needs.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from specola import __version__
from specola.core.errors import FacilityError, PublicError, SpecolaError

COMMANDS = {
    "up": ("specola.cli.run", "Start the facility on this machine."),
    "stop": ("specola.cli.run", "Stop the facility, and what it started for people."),
    "restart": ("specola.cli.run", "Restart the facility's processes; people's programs go on."),
    "status": ("specola.cli.run", "Say which processes answer."),
    "reset": ("specola.cli.reset", "List and remove what a facility made on this machine."),
    "check": ("specola.cli.facility", "Say what is wrong with a facility file."),
    "render": ("specola.cli.facility", "Print what is derived from a facility file."),
    "doctor": ("specola.cli.facility", "Try each part of a facility and say what to do."),
    "identity": ("specola.cli.identity", "Who may log in, and who has."),
    "gpu": ("specola.cli.gpu", "What is free, my requests and leases; who holds what."),
    "scaleout": ("specola.cli.scaleout", "Who computes; end somebody's clusters."),
}
"""command → module that defines it under its own name, and what it is for"""

FAILED = 2


class Commands(click.Group):
    """Commands by table; what Specola finds wrong is printed in words, without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click calls it so
        """In the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        try:
            module = importlib.import_module(COMMANDS[cmd_name][0])
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("specola"):
                raise
            raise click.ClickException(f"{error.name} is not installed: pip install 'specola[local]'") from None
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; exit with 2 when Specola finds something wrong."""
        if "NO_COLOR" in os.environ:
            ctx.color = False
        try:
            return super().invoke(ctx)
        except SpecolaError as error:
            click.echo(in_words(error), err=True)
            sys.exit(FAILED)


def in_words(error: SpecolaError) -> str:
    """What is printed of an error."""
    if isinstance(error, FacilityError):
        return "\n".join(error.complaints)
    if isinstance(error, PublicError) and error.detail:
        return f"specola: {error.title}: {error.detail}"
    return f"specola: {error}"


@click.group("specola", cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="specola")
def main() -> None:
    """JupyterHub made into a complete scientific analysis facility."""
