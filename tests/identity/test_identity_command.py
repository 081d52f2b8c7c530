"""`specola identity`: an operator sees who may log in and who has, whether the facility is up or not."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from specola.cli import main
from specola.core.layout import Layout
from specola.facility.prepare import free_ports
from specola.facility.runtime import Addresses, Ports, addresses_file
from specola.identity.adapters.people import People

SERVICE = 65534
FACILITY = """
identity:
  people:
    - {name: anna, full_name: Anna Rossi, groups: [cms]}
    - {name: bob, full_name: Bob Verdi}
    - {name: otto, full_name: Otto Greco, groups: [theory]}
groups:
  cms: {}
  operators: {roles: [user, admin], members: [bob]}
"""
FOREIGN = """
identity: {kind: iam, issuer: "https://iam.example.org/", client_id: x, client_secret: {env: NONE}}
groups: {cms: {}}
"""


@pytest.fixture
def layout() -> Iterator[Layout]:
    """A state directory, as root that of another account, which has to pass what lies above it."""
    top = Path(tempfile.mkdtemp(prefix="sp", dir="/tmp"))
    top.chmod(0o711)
    layout = Layout(top / "state")
    layout.state.mkdir(mode=0o700)
    ports = Ports.model_validate(free_ports(tuple(Ports.model_fields)))
    addresses = Addresses(ports=ports, public_url="http://localhost:9/", env=Path(sys.prefix), separate_accounts=False)
    addresses_file(layout).write_text(addresses.model_dump_json())
    layout.facility_file.write_text(FACILITY)
    if os.geteuid() == 0:
        os.chown(layout.state, SERVICE, SERVICE)
    yield layout
    shutil.rmtree(top)


def run(layout: Layout, *more: str) -> Result:
    return CliRunner().invoke(main, ["identity", "people", "--state", str(layout.state), *more])


def admit(layout: Layout) -> None:
    people = People(layout.database)
    people.admit(issuer="http://localhost:9/services/issuer/", subject="s2", name="bob", full_name="Bob Verdi")
    people.admit(issuer="http://localhost:9/services/issuer/", subject="s1", name="anna", full_name="Anna Rossi")
    if os.geteuid() == 0:
        for path in layout.state.glob("specola.sqlite*"):
            os.chown(path, SERVICE, SERVICE)


def test_who_may_log_in_is_said_before_anybody_has(layout: Layout) -> None:
    """By the token's groups or by our roster; whoever is in no group of the facility may not."""
    shown = run(layout)
    assert shown.exit_code == 0, shown.output
    assert "http://localhost:9/services/issuer/" in shown.output
    assert "operators: user, admin; our roster: bob" in shown.output
    assert "That is: anna, bob." in shown.output
    assert "Nobody has logged in yet." in shown.output
    assert not layout.database.exists()


def test_who_has_logged_in_is_listed(layout: Layout) -> None:
    admit(layout)
    lines = run(layout).output.splitlines()
    names = [line.split()[0] for line in lines[-2:]]
    assert names == ["anna", "bob"]
    assert lines[-2].split()[1:3] == ["Anna", "Rossi"]


def test_programs_get_json(layout: Layout) -> None:
    admit(layout)
    content = json.loads(run(layout, "--json").output)
    assert content["may_log_in"] == ["anna", "bob"]
    assert [group["name"] for group in content["groups"]] == ["cms", "operators"]
    assert content["people"][0]["issuer"] == content["issuer"]
    assert content["people"][0]["first_seen"].endswith("+00:00")


def test_of_a_foreign_issuer_only_the_groups_are_known(layout: Layout) -> None:
    layout.facility_file.write_text(FOREIGN)
    assert "whom https://iam.example.org/ knows" in run(layout).output
    assert json.loads(run(layout, "--json").output)["may_log_in"] is None


@pytest.mark.needs_root
def test_looking_leaves_no_file_of_root_behind(layout: Layout) -> None:
    """SQLite makes files beside a database: one of root would lock the facility out of it."""
    admit(layout)
    run(layout)
    owners = {path.stat().st_uid for path in layout.state.iterdir() if path.name.startswith("specola.sqlite")}
    assert owners == {SERVICE}


def test_a_database_that_cannot_be_read_is_said(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", closed)
    shown = run(layout)
    assert shown.exit_code == 2
    assert "cannot read" in shown.output
