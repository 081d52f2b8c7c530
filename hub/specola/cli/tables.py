"""How commands print lists: aligned columns for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

AS_JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as their widest cell."""
    for line in aligned(heads, rows):
        click.echo(line)


def aligned(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """The lines of such a table."""
    lines = [[str(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def shown(content: dict[str, Any], words: Callable[[dict[str, Any]], Iterable[str]], *, as_json: bool) -> None:
    """One JSON object for programs, or lines for people."""
    if as_json:
        document(content)
    else:
        for line in words(content):
            click.echo(line)


def document(content: dict[str, Any]) -> None:
    """One JSON object."""
    click.echo(json.dumps(content, indent=2, ensure_ascii=False))
