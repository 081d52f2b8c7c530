"""The people of the embedded issuer, its files, and its process."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from identity_rig import PEOPLE, until
from running import free_port
from specola.core.layout import Layout
from specola.core.rights import acting_as
from specola.identity.issuer import __main__ as program
from specola.identity.issuer.accounts import check_password, ensure_logins
from specola.identity.issuer.app import build, purge
from specola.identity.issuer.keys import load_or_make
from specola.identity.issuer.settings import IssuerSettings, directory
from specola.identity.issuer.store import Store

NOBODY = 65534


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    return Layout(state)


def test_passwords_are_made_once_and_kept(layout: Layout) -> None:
    first = ensure_logins(layout, PEOPLE)
    assert [one["username"] for one in first] == ["anna", "marco", "ugo"]
    assert all(re.fullmatch(r"(?:[a-z2-9]{4}-){3}[a-z2-9]{4}", one["password"]) for one in first)
    assert ensure_logins(layout, PEOPLE) == first == json.loads(layout.demo_logins.read_text())
    assert stat.S_IMODE(layout.demo_logins.stat().st_mode) == 0o600


def test_new_groups_count_and_new_people_come(layout: Layout) -> None:
    first = ensure_logins(layout, PEOPLE[:1])
    changed = PEOPLE[0].model_copy(update={"groups": ("ops",), "full_name": "Anna Verdi"})
    second = ensure_logins(layout, [changed, PEOPLE[1]])
    assert second[0] == first[0] | {"groups": ["ops"]}
    store = Store(directory(layout) / "issuer.sqlite")
    assert store.person("anna").full_name == "Anna Verdi"
    store.close()


@pytest.mark.parametrize("text", [None, "half a fi", "[1]", '[{"username": "anna"}]'])
def test_a_lost_or_broken_file_means_new_passwords(layout: Layout, text: str | None) -> None:
    """Hashes cannot be read back: the passwords are made again and the old ones end."""
    old = ensure_logins(layout, PEOPLE)[0]["password"]
    layout.demo_logins.unlink()
    if text is not None:
        layout.demo_logins.write_text(text)
    new = ensure_logins(layout, PEOPLE)[0]["password"]
    store = Store(directory(layout) / "issuer.sqlite")
    stored = store.password_hash("anna")
    store.close()
    assert check_password(stored, new)
    assert not check_password(stored, old)


def test_passwords_are_checked_for_nobody_and_for_broken_hashes_too() -> None:
    assert not check_password(None, "nobody")
    assert not check_password("not a hash", "x")


@pytest.mark.needs_root
def test_root_works_as_the_service_account(tmp_path: Path) -> None:
    """Files belong to the account; a link that it planted leads root nowhere."""
    tmp_path.chmod(0o711)
    for parent in tmp_path.parents:
        if str(parent).startswith("/tmp/pytest"):
            parent.chmod(0o711)
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    os.chown(state, NOBODY, NOBODY)
    layout = Layout(state)
    ensure_logins(layout, PEOPLE, NOBODY, NOBODY)
    for path in (*directory(layout).iterdir(), layout.demo_logins):
        assert path.stat().st_uid == path.stat().st_gid == NOBODY, path
    target = tmp_path / "of-root"
    target.write_text("root's")
    target.chmod(0o600)
    database = directory(layout) / "issuer.sqlite"
    database.unlink()
    database.symlink_to(target)
    with pytest.raises(Exception, match=r"unable to open|denied"):
        ensure_logins(layout, PEOPLE, NOBODY, NOBODY)
    assert target.read_text() == "root's"
    assert os.geteuid() == 0


@pytest.mark.needs_root
def test_rights_come_back_after_an_error() -> None:
    groups = os.getgroups()
    seen: list[tuple[int, int]] = []

    def fails() -> None:
        with acting_as(NOBODY, None):
            seen.append((os.geteuid(), os.getegid()))
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert seen == [(NOBODY, NOBODY)]
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, 0, groups)


def test_the_signing_key_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    kid = load_or_make(path).kid
    assert load_or_make(path).kid == kid
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "key.pem"
    path.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    with pytest.raises(TypeError, match="no RSA key"):
        load_or_make(path)


def test_a_failed_transaction_changes_nothing(layout: Layout) -> None:
    ensure_logins(layout, PEOPLE)
    store = Store(directory(layout) / "issuer.sqlite")

    def broken() -> None:
        with store.transaction():
            store.run("DELETE FROM people")
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert store.names() == ["anna", "marco", "ugo"]
    store.close()


def test_what_has_expired_is_forgotten(layout: Layout) -> None:
    settings = IssuerSettings("http://127.0.0.1:1/services/issuer/", ("http://x/",), "s", code_life=-7200)
    ensure_logins(layout, PEOPLE)
    issuer = build(settings, directory(layout))
    from specola.identity.issuer.grants import Asked

    person = issuer.store.person("anna")
    assert person is not None
    issuer.grants.code(person, Asked("http://x/", "openid", "", "c", ""))
    purge(issuer)
    assert issuer.store.one("SELECT * FROM codes") is None
    assert issuer.store.one("SELECT * FROM families") is None
    issuer.store.close()


def test_the_program_serves_until_it_is_told_to_stop(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m specola.identity.issuer` with its arguments, ended by SIGTERM."""
    layout.secrets.mkdir()
    (layout.secrets / "issuer-client").write_text("planted-secret-2")
    ensure_logins(layout, PEOPLE)
    port = free_port()
    url = f"http://127.0.0.1:{port}/services/issuer/"
    arguments = ["--url", url, "--port", str(port), "--redirect", "http://x/cb", "--access-token-life", "9"]
    command = [sys.executable, "-m", "specola.identity.issuer", *arguments]
    process = subprocess.Popen(command, env=os.environ | {"SPECOLA_STATE": str(layout.state)})
    try:
        until(lambda: _well(url))
        command_line = Path(f"/proc/{process.pid}/cmdline").read_text()
        assert "planted-secret-2" not in command_line
    finally:
        process.terminate()
        assert process.wait(120) == 0


def test_the_program_in_this_process(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, seen from inside: a signal ends it and the database is closed."""
    layout.secrets.mkdir()
    (layout.secrets / "issuer-client").write_text("planted-secret-2")
    ensure_logins(layout, PEOPLE)
    monkeypatch.setattr(program.log, "setup", lambda name: None)
    monkeypatch.setenv("SPECOLA_STATE", str(layout.state))
    port = free_port()
    url = f"http://127.0.0.1:{port}/services/issuer/"

    def end_it() -> None:
        try:
            until(lambda: _well(url))
        finally:
            os.kill(os.getpid(), 15)

    killer = threading.Thread(target=end_it)
    killer.start()
    program.main(["--url", url, "--port", str(port), "--redirect", "http://x/cb"])
    killer.join()
    assert not _well(url)


def _well(url: str) -> bool:
    try:
        return httpx.get(f"{url}healthz").json() == {"status": "ok"}
    except httpx.HTTPError:
        return False
