"""Secrets stay where they are kept: no log, no error body, no environment, no process list shows one."""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
import subprocess
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from running import Facility, Session

pytestmark = [pytest.mark.journey, pytest.mark.needs_root]


@pytest.fixture(scope="module")
def anna(facility: Facility) -> Session:
    session = facility.login("anna")
    session.start_server()
    return session


@pytest.fixture(scope="module")
def secrets(facility: Facility, anna: Session) -> dict[str, str]:
    """Every secret of the facility, every demo password, and the tokens that the issuer gave for anna."""
    found = {path.name: path.read_text().strip() for path in (facility.state / "secrets").iterdir()}
    found |= {f"password of {one['username']}": one["password"] for one in facility.logins().values()}
    assert len(found) > 10
    return found | issued(facility, anna.name)


def kept(facility: Facility, name: str) -> bytes:
    """What the hub keeps of somebody's login, as it lies on the disk."""
    with contextlib.closing(sqlite3.connect(facility.state / "hub" / "jupyterhub.sqlite", timeout=60)) as database:
        (blob,) = database.execute("select encrypted_auth_state from users where name=?", (name,)).fetchone()
    return bytes(blob)


def issued(facility: Facility, name: str) -> dict[str, str]:
    """The issuer's tokens for somebody, decrypted as only the hub can."""
    key = base64.urlsafe_b64encode(bytes.fromhex((facility.state / "secrets" / "crypt").read_text()))
    state = json.loads(Fernet(key).decrypt(kept(facility, name)))
    return {f"{kind} of {name}": state[kind] for kind in ("access_token", "refresh_token", "id_token")}


def shown(text: str, secrets: dict[str, str]) -> list[str]:
    return [name for name, value in secrets.items() if value in text]


def test_no_log_shows_a_secret(facility: Facility, anna: Session, secrets: dict[str, str]) -> None:
    facility.login("anna", "wrong password")
    logs = [*(facility.state / "logs").glob("*"), *(facility.run / "logs").glob("*")]
    assert logs
    for log in logs:
        text = log.read_text(errors="replace")
        assert not shown(text, secrets), log
        assert "refresh_token" not in text.replace("grant_type=refresh_token", ""), log


def test_no_users_process_has_one_in_its_environment(
    facility: Facility, anna: Session, secrets: dict[str, str]
) -> None:
    anna.kernel().run("1")
    seen = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid < 1000 or str(facility.homes).encode() not in (process / "environ").read_bytes():
                continue
            seen += 1
            assert not shown((process / "environ").read_text(errors="replace"), secrets)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    assert seen >= 2, "the server and its kernel"


def test_the_process_list_shows_none(anna: Session, secrets: dict[str, str]) -> None:
    listing = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert not shown(listing, secrets)


def test_the_refresh_token_is_in_no_users_reach(facility: Facility, anna: Session) -> None:
    """The hub keeps it encrypted; the server's own token cannot ask for it."""
    blob = kept(facility, "anna")
    assert b"refresh_token" not in blob
    assert not [kind for kind, value in issued(facility, "anna").items() if value.encode() in blob]
    out = anna.kernel().run(
        "import os, json, urllib.request as u\n"
        "r = u.Request(os.environ['JUPYTERHUB_API_URL'] + '/users/anna',"
        " headers={'Authorization': 'token ' + os.environ['JUPYTERHUB_API_TOKEN']})\n"
        "print(sorted(json.load(u.urlopen(r))))"
    )
    assert "auth_state" not in out


@pytest.mark.parametrize("path", ["hub/oauth_callback?code=x&state=y", "hub/api/nothing", "services/specola/api/v1/no"])
def test_no_error_body_shows_one(facility: Facility, anna: Session, secrets: dict[str, str], path: str) -> None:
    answer = anna.http.get(facility.url + path)
    assert answer.status_code >= 400
    assert not shown(answer.text, secrets)


def test_the_files_are_closed(facility: Facility) -> None:
    assert facility.state.stat().st_mode & 0o777 == 0o700
    for path in [*(facility.state / "secrets").iterdir(), facility.state / "demo-logins.json"]:
        assert path.stat().st_mode & 0o777 == 0o600, path
