"""The state of every release opens in this one, with everybody's logins; that of a newer one is left as it is."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import sqlite3
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from jupyterhub import orm
from jupyterhub.crypto import CryptKeeper
from jupyterhub.dbutil import upgrade_if_needed
from oldstate import FIXTURES, restore
from running import Facility, free_port
from specola.core import database
from specola.core.errors import StateError
from specola.core.layout import SECRETS, Layout
from specola.core.state import VERSION, version_file
from specola.facility import prepare as module
from specola.facility.prepare import Wish, prepare
from specola.facility.runtime import Runtime, addresses_file
from specola.identity.adapters.people import People
from specola.identity.issuer.accounts import DATABASE, check_password
from specola.identity.issuer.keys import load_or_make
from specola.identity.issuer.settings import directory
from specola.identity.issuer.store import Store

RELEASES = sorted(path.name for path in FIXTURES.glob("state-*"))
Tree = dict[str, tuple[int, int, bytes]]


@pytest.fixture(params=RELEASES)
def old(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """The state of a release, which belongs to whoever runs the tests."""
    monkeypatch.setattr(module, "is_root", lambda: False)
    layout = Layout(tmp_path / "state")
    restore(FIXTURES / request.param, layout.state)
    return layout


def opened(layout: Layout) -> Runtime:
    return prepare(Wish(layout.state), Path(sys.prefix))


def tree(layout: Layout) -> Tree:
    """Every file with its mode, time and content."""
    return {
        str(path.relative_to(layout.state)): (
            path.stat().st_mode,
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(layout.state.rglob("*"))
    }


def test_the_first_release_is_kept() -> None:
    assert "state-0.1.0" in RELEASES


def test_secrets_addresses_facility_and_logins_stay(old: Layout) -> None:
    kept = [old.facility_file, old.demo_logins, *old.secrets.iterdir()]
    before = {path: path.read_text().strip() for path in kept}
    addresses = json.loads(addresses_file(old).read_text())
    runtime = opened(old)
    assert {path: json_or_text(path) for path in kept} == {path: as_json(text) for path, text in before.items()}
    assert runtime.ports.model_dump() == addresses["ports"]
    assert runtime.public_url == addresses["public_url"]
    assert set(SECRETS) <= {path.name for path in old.secrets.iterdir()}
    assert stat.S_IMODE(old.state.stat().st_mode) == 0o700


def as_json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def json_or_text(path: Path) -> object:
    return as_json(path.read_text().strip())


def test_the_database_comes_to_todays_schema_with_its_people(old: Layout) -> None:
    engine = database.open_database(opened(old).layout.database)
    (head,) = ScriptDirectory.from_config(database._config(engine)).get_heads()
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == head
    database.record(engine, "anna", "opened", "state")
    engine.dispose()
    known = People(old.database)
    (anna,) = known.everybody()
    assert (anna.name, anna.full_name) == ("anna", "Anna Rossi")
    with sqlite3.connect(old.database) as connection:
        issuer, subject = connection.execute("SELECT issuer, subject FROM people").fetchone()
    connection.close()
    known.admit(issuer=issuer, subject=subject, name="anna", full_name="Anna Rossi")


def test_the_issuer_knows_its_people_and_signs_with_the_same_key(old: Layout) -> None:
    """Who is logged in stays so: tokens are checked with the key that signed them."""
    (key,) = directory(old).glob("key*")
    kid = load_or_make(key).kid
    runtime = opened(old)
    store = Store(directory(old) / DATABASE)
    (login,) = json.loads(old.demo_logins.read_text())
    assert check_password(store.password_hash(login["username"]), login["password"])
    anna = store.person("anna")
    store.close()
    assert anna is not None
    assert anna.enabled
    assert load_or_make(key).kid == kid
    assert runtime.facility.identity.kind == "embedded"


async def test_the_hub_knows_its_people_and_reads_their_tokens(old: Layout) -> None:
    layout = opened(old).layout
    url = f"sqlite:///{layout.state}/hub/jupyterhub.sqlite"
    upgrade_if_needed(url)
    session = orm.new_session_factory(url)()
    (anna,) = session.query(orm.User).all()
    assert anna.name == "anna"
    assert [group.name for group in anna.groups] == ["physics"]
    keeper = CryptKeeper(keys=[bytes.fromhex(layout.secret("crypt"))], n_threads=1)
    state = await keeper.decrypt(anna.encrypted_auth_state)
    assert state["refresh_token"]
    assert orm.APIToken.find(session, layout.secret("service")).service.name == "specola"
    session.close()
    session.bind.dispose()


def test_a_newer_state_is_refused_and_left_as_it_is(old: Layout) -> None:
    version_file(old).write_text(f"{VERSION + 1}\n")
    before = tree(old)
    with pytest.raises(StateError, match="newer release"):
        opened(old)
    assert tree(old) == before
    assert not old.run.exists()


def test_a_newer_database_is_refused_and_left_as_it_is(old: Layout) -> None:
    with sqlite3.connect(old.database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'from the future'")
    connection.close()
    before = old.database.read_bytes()
    with pytest.raises(StateError, match="newer release"):
        database.open_database(old.database)
    assert old.database.read_bytes() == before


@pytest.fixture(params=RELEASES)
def place(request: pytest.FixtureRequest) -> Iterator[Facility]:
    """The state of a release where an ordinary account can start it, on another port than it had."""
    account = pwd.getpwnam("games").pw_uid if os.geteuid() == 0 else None
    top = Path(tempfile.mkdtemp(prefix="sp-", dir="/var/tmp"))
    state, port = top / "state", free_port()
    restore(FIXTURES / request.param, state)
    for path in [top, *top.rglob("*")] if account is not None else ():
        os.chown(path, account, account)
    command = ["up", "--detach", "--state", str(state), "--port", str(port)]
    facility = Facility(state, port, command, account)
    yield facility
    facility.specola("stop", "--state", str(state), check=False)
    facility.specola("reset", "--yes", "--state", str(state), check=False)
    shutil.rmtree(top, ignore_errors=True)


@pytest.mark.journey
def test_people_log_in_with_their_old_passwords(place: Facility) -> None:
    """Also at another address: people of the embedded issuer are the same people whatever its URL."""
    place.up()
    anna = place.login("anna", "test-only-password")
    assert anna.page.status_code == 200, anna.page.text  # type: ignore[attr-defined]
    assert anna.api("GET", "me").json()["groups"][0]["name"] == "physics"
