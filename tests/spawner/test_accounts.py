"""Names of accounts, and the ledger that never gives a uid twice."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from launching import Place, place
from specola.core import accounts
from specola.core import people as people_module
from specola.core.accounts import FIRST_UID, Ledger, check_person, slug
from specola.core.errors import BadInput, SpecolaError
from specola.core.layout import Layout
from specola.core.people import (
    OneAccount,
    SeparateAccounts,
    ensure_account,
    make_directory,
    remove_account,
)
from specola.core.rights import as_account


@given(st.text(min_size=1, max_size=255))
def test_slug_is_always_a_safe_short_name(text: str) -> None:
    name = slug(text)
    assert len(name) <= 24
    assert name[0].isalpha()
    assert all(c in "abcdefghijklmnopqrstuvwxyz0123456789-" for c in name)
    assert "--" not in name


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_slugs_of_different_people_differ(one: str, other: str) -> None:
    assert (slug(one) == slug(other)) == (one == other)


def test_plain_name_is_kept() -> None:
    assert slug("anna2") == "anna2"
    assert slug("Anna") != slug("anna")


@pytest.mark.parametrize("person", ["", None, 7, "a\0b", "a" * 256, "\ud800"])
def test_impossible_people_are_refused(person: object) -> None:
    with pytest.raises(BadInput):
        check_person(person)


def test_uid_is_never_given_twice(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "accounts.json")
    seen = []
    for _ in range(3):
        with ledger.locked() as book:
            entry = book.intend("f", "gina-never-made", tmp_path)
            seen.append(entry.uid)
            book.removed(book.created(entry))
    assert seen == sorted(set(seen))
    assert stat.S_IMODE((tmp_path / "accounts.json").stat().st_mode) == 0o600


def test_two_facilities_share_no_account(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "accounts.json")
    with ledger.locked() as book:
        first, second = (book.intend(state, "gina-never-made", tmp_path) for state in ("one", "two"))
    assert first.account != second.account
    assert first.uid != second.uid
    with ledger.locked() as book:
        assert book.others("one") == ["two"]


def test_existing_account_is_never_adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is called like an account that we did not make gets another name."""
    monkeypatch.setattr(accounts, "account_exists", lambda name: name == "sp-gina")
    with Ledger(tmp_path / "accounts.json").locked() as book:
        entry = book.intend("f", "gina", tmp_path)
    assert entry.account.startswith("sp-gina-")


def test_ledger_of_another_release_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "accounts.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(SpecolaError, match="schema 99"), Ledger(tmp_path / "accounts.json").locked():
        pass


def test_no_uid_left_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "LAST_UID", FIRST_UID - 1)
    with pytest.raises(SpecolaError, match="no uid"), Ledger(tmp_path / "accounts.json").locked() as book:
        book.intend("f", "gina", tmp_path)


def test_facilities_of_a_machine_are_known(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "state")
    with Ledger(tmp_path / "accounts.json").locked() as book:
        book.register(layout)
        book.register(layout)
    with Ledger(tmp_path / "accounts.json").locked() as book:
        assert book.states == {layout.id: str(layout.state)}
        book.unregister(layout.id)
        book.unregister(layout.id)
        assert book.others("x") == []


def test_one_account_gives_each_person_a_home(tmp_path: Path) -> None:
    people = OneAccount(Layout(tmp_path / "state"), tmp_path / "homes")
    try:
        account = asyncio.run(people.account("anna@cern.ch"))
        assert account.uid == os.getuid()
        assert stat.S_IMODE(account.home.stat().st_mode) == 0o700
        assert (account.home / ".run").resolve() == account.runtime / "run"
    finally:
        shutil.rmtree(account.runtime.parent)


def test_link_in_place_of_a_home_is_refused(tmp_path: Path) -> None:
    (tmp_path / "anna").symlink_to("/etc")
    with pytest.raises(SpecolaError, match="not a directory"):
        make_directory(tmp_path / "anna", 30_000, 30_000)


@pytest.fixture
def here() -> Iterator[Place]:
    with place() as one:
        yield one


def people(here: Place) -> SeparateAccounts:
    return SeparateAccounts(here.layout, here.layout.homes, Ledger(here.ledger))


@pytest.mark.needs_root
def test_account_is_unprivileged_and_closed(here: Place) -> None:
    account = asyncio.run(people(here).account("anna"))
    known = pwd.getpwnam(account.name)
    assert known.pw_uid >= FIRST_UID
    assert known.pw_shell == "/usr/sbin/nologin"
    (shadow,) = [line for line in Path("/etc/shadow").read_text().splitlines() if line.startswith(f"{account.name}:")]
    assert shadow.split(":")[1].startswith("!")
    assert account.name not in Path("/etc/subuid").read_text() if Path("/etc/subuid").exists() else True
    found = account.home.lstat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (account.uid, 0o700)


@pytest.mark.needs_root
def test_account_is_finished_after_a_kill_in_between(here: Place) -> None:
    """The intention is written first: whoever comes next finishes it, with the same name and uid."""
    with Ledger(here.ledger).locked() as book:
        intended = book.intend(here.layout.id, "anna", here.layout.homes)
    account = asyncio.run(people(here).account("anna"))
    assert (account.name, account.uid) == (intended.account, intended.uid)
    again = asyncio.run(people(here).account("anna"))
    assert again == account
    with Ledger(here.ledger).locked() as book:
        (entry,) = book.of_state(here.layout.id)
    assert entry.created is not None


@pytest.mark.needs_root
def test_account_that_was_changed_outside_is_refused(here: Place) -> None:
    account = asyncio.run(people(here).account("anna"))
    with Ledger(here.ledger).locked() as book:
        (entry,) = book.of_state(here.layout.id)
    people_module._tool("usermod", "--comment", "mine now", account.name)
    try:
        with pytest.raises(SpecolaError, match="changed outside"):
            ensure_account(entry)
        with pytest.raises(SpecolaError, match="left alone"):
            remove_account(entry)
    finally:
        people_module._tool("usermod", "--comment", "Specola person", account.name)


@pytest.mark.needs_root
def test_home_of_somebody_else_is_not_taken(here: Place) -> None:
    with Ledger(here.ledger).locked() as book:
        intended = book.intend(here.layout.id, "anna", here.layout.homes)
    home = Path(intended.home)
    home.mkdir(parents=True)
    here.layout.homes.chmod(0o711)
    os.chown(home, 65_534, 65_534)
    with pytest.raises(SpecolaError, match="belongs to somebody else"):
        asyncio.run(people(here).account("anna"))
    os.chown(home, 0, 0)
    (home / "file").touch()
    with pytest.raises(SpecolaError, match="belongs to somebody else"):
        asyncio.run(people(here).account("anna"))
    (home / "file").unlink()
    assert asyncio.run(people(here).account("anna")).home == home


@pytest.mark.needs_root
def test_homes_that_others_may_write_are_refused(here: Place) -> None:
    here.layout.homes.mkdir(mode=0o777)
    here.layout.homes.chmod(0o777)
    with pytest.raises(SpecolaError, match="nobody else may write"):
        asyncio.run(people(here).account("anna"))


@pytest.mark.needs_root
def test_what_fails_as_an_account_is_told(here: Place) -> None:
    account = asyncio.run(people(here).account("anna"))

    def look() -> None:
        list(Path("/root").iterdir())

    with pytest.raises(SpecolaError, match="Permission denied"):
        asyncio.run(as_account(account, look))


@pytest.mark.needs_root
def test_numbers_that_were_taken_in_between_are_refused(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger(here.ledger).locked() as book:
        entry = book.intend(here.layout.id, "anna", here.layout.homes)
    monkeypatch.setattr("specola.core.people.uid_is_used", lambda uid: True)
    with pytest.raises(SpecolaError, match="was taken"):
        ensure_account(entry)
    monkeypatch.undo()
    people_module._tool("groupadd", "--gid", str(entry.gid + 7), entry.account)
    try:
        with pytest.raises(SpecolaError, match="is not the one"):
            ensure_account(entry)
    finally:
        people_module._tool("groupdel", entry.account)


def test_tool_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecolaError, match="groupdel failed"):
        people_module._tool("groupdel", "no-such-group-here")
