"""The map of DESIGN holds: a feature is the same word in every layer."""

from __future__ import annotations

import ast
from pathlib import Path

import click
import pytest
from running import TOP
from specola.cli import COMMANDS, main
from specola.facility.model import Facility
from specola.server.wiring import all_routes

ALL = ("identity", "gpu", "scaleout", "storage", "environments", "catalogue", "courses", "usage")
BUILT = tuple(word for word in ALL if (TOP / "hub" / "specola" / word).is_dir())
MODULES = sorted(path for root in ("hub", "spawner", "worker") for path in (TOP / root).rglob("*.py"))


def test_what_is_built_is_known() -> None:
    assert set(BUILT) >= {"identity", "scaleout"}


@pytest.mark.parametrize("word", BUILT)
def test_a_feature_is_the_same_word_everywhere(word: str) -> None:
    assert (TOP / "extension" / "src" / word).is_dir(), "the panel"
    assert word in Facility.model_fields, "facility.yaml"
    assert list((TOP / "tests" / word).glob("test_*.py")), "tests"
    assert (TOP / "docs" / f"{word}.md").is_file(), "docs"
    assert (TOP / "hub" / "specola" / word / "routes.py").is_file(), "routes"
    assert COMMANDS[word][0] == f"specola.cli.{word}", "its command"
    command = main.get_command(click.Context(main), word)
    assert isinstance(command, click.Group)
    assert command.commands


@pytest.mark.parametrize("word", sorted(set(ALL) - set(BUILT)))
def test_a_planned_feature_has_no_folder(word: str) -> None:
    for place in ("hub/specola", "extension/src", "tests"):
        assert not (TOP / place / word).exists()


def test_every_route_begins_with_its_feature() -> None:
    known = {*BUILT, "servers", "me", "events", "notices", "health"}
    assert {route.path.strip("/").split("/")[0] for route in all_routes()} <= known


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TOP)))
def test_modules_and_functions_stay_readable(path: Path) -> None:
    """At most 400 lines in a module, 40 in a function."""
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        # `routes` and `upgrade` are tables: data in the form of a function
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name not in {"routes", "upgrade"}:
            length = (node.end_lineno or node.lineno) - node.body[0].lineno + 1
            assert length <= 40, f"{node.name} has {length} lines"
