"""The command `specola`: a table of commands, errors in words, exit codes."""

from __future__ import annotations

import importlib
import json
import types
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner, Result
from specola import __version__, cli
from specola.core.errors import Conflict, FacilityError, SpecolaError
from specola.facility import doctor
from specola.facility.doctor.finding import Findings, Patient, ill, not_tried, well
from specola.facility.runtime import Runtime, addresses_file

DEMO = str(Path(__file__).parents[2] / "examples" / "demo.yaml")


def run(*arguments: str, **options: object) -> Result:
    return CliRunner().invoke(cli.main, list(arguments), **options)  # type: ignore[arg-type]


def test_help_lists_every_command_and_imports_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda _name: pytest.fail("a command was imported"))
    shown = run("--help")
    assert shown.exit_code == 0
    for name, (_, text) in cli.COMMANDS.items():
        assert name in shown.output
        assert text in shown.output


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_of_the_table_is_there(name: str) -> None:
    shown = run(name, "--help")
    assert shown.exit_code == 0, shown.output
    assert f"specola {name}" in shown.output


def test_completion_knows_the_commands() -> None:
    assert cli.main.list_commands(click.Context(cli.main)) == list(cli.COMMANDS)


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version").output == f"specola, version {__version__}\n"


def test_an_unknown_command_is_refused() -> None:
    assert run("chek").exit_code == 2


def test_a_command_whose_library_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> types.ModuleType:
        raise ModuleNotFoundError("No module named 'supervisor'", name="supervisor")

    monkeypatch.setattr(importlib, "import_module", missing)
    shown = run("up")
    assert shown.exit_code == 1
    assert "supervisor is not installed: pip install 'specola[local]'" in shown.output


def test_a_missing_module_of_our_own_is_a_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> types.ModuleType:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    assert isinstance(run("up").exception, ModuleNotFoundError)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (SpecolaError("the port is taken"), "specola: the port is taken\n"),
        (Conflict("It is up already"), "specola: It is up already\n"),
        (Conflict("It is up already", "stop it first"), "specola: It is up already: stop it first\n"),
        (FacilityError(["f:1: a: b", "f:2: c: d"]), "f:1: a: b\nf:2: c: d\n"),
    ],
)
def test_errors_are_words_and_the_exit_code_is_two(
    error: SpecolaError, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    def fails() -> None:
        raise error

    monkeypatch.setattr(importlib, "import_module", lambda _name: types.SimpleNamespace(check=fails))
    shown = run("check")
    assert shown.exit_code == 2
    assert shown.output == words


def test_check_says_that_a_file_can_be_used() -> None:
    shown = run("check", DEMO)
    assert shown.exit_code == 0
    assert shown.output == f"{DEMO}: demo can be used (embedded identity, 4 groups)\n"


def test_check_prints_every_complaint_and_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("nam: x\nservers: {idle_limit: 1 GiB}\nidentity: {client_secret: hunter2}\n")
    shown = run("check", str(path))
    assert shown.exit_code == 2
    lines = shown.output.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        [f"{path}:1", "nam"],
        [f"{path}:2", "servers.idle_limit"],
        [f"{path}:3", "identity.client_secret"],
    ]
    assert "hunter2" not in shown.output


@pytest.mark.parametrize("what", ["config", "processes"])
def test_render_prints_yaml_of_a_file_that_was_never_started(what: str, tmp_path: Path) -> None:
    shown = run("render", what, DEMO, "--state", str(tmp_path / "state"))
    assert shown.exit_code == 0, shown.output
    assert yaml.safe_load(shown.output)


@pytest.mark.parametrize("what", ["schema", "openapi"])
def test_render_prints_json(what: str) -> None:
    shown = run("render", what)
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.output)


def test_render_prints_the_reference() -> None:
    assert "| `servers.idle_limit` | duration |" in run("render", "reference").output


def test_render_takes_the_facility_that_was_last_started(runtime_of: Callable[..., Runtime]) -> None:
    runtime = runtime_of("")
    addresses_file(runtime.layout).write_text(runtime.addresses.model_dump_json())
    runtime.layout.facility_file.write_text("name: mine\n")
    shown = run("render", "config", "--state", str(runtime.layout.state))
    assert yaml.safe_load(shown.output)["Spawner"]["environment"]["SPECOLA_FACILITY"] == "mine"


def test_render_of_nothing_is_the_facility_of_the_defaults(tmp_path: Path) -> None:
    shown = run("render", "config", "--state", str(tmp_path / "state"))
    assert yaml.safe_load(shown.output)["Spawner"]["environment"]["SPECOLA_FACILITY"] == "specola"


def test_render_of_a_closed_state_directory_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", closed)
    shown = run("render", "config", "--state", str(tmp_path / "state"))
    assert shown.exit_code == 2
    assert "cannot look into" in shown.output


async def good(_who: Patient) -> Findings:
    return [well("fine"), not_tried("nothing", "do nothing")]


async def bad(_who: Patient) -> Findings:
    return [ill("broken", "mend it")]


def test_doctor_prints_a_line_for_each_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PROBES", {"a": good, "b": bad})
    shown = run("doctor", DEMO, "--state", str(tmp_path / "state"))
    assert shown.exit_code == 1
    assert [line.strip() for line in shown.output.splitlines()] == [
        "✓ a              fine",
        "–                nothing",
        "→ do nothing",
        "✗ b              broken",
        "→ mend it",
    ]


def test_doctor_is_content_when_nothing_is_ill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PROBES", {"a": good})
    assert run("doctor", DEMO, "--state", str(tmp_path / "state")).exit_code == 0


def test_no_color_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PROBES", {"a": good})
    arguments = ("doctor", DEMO, "--state", str(tmp_path / "state"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in run(*arguments, color=True).output
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in run(*arguments, color=True).output
