"""State directories of releases, kept as text: made once by the release itself, opened by every later one.

`python tests/oldstate.py` starts the facility of this release, has somebody log in and work, and writes
`tests/fixtures/state-<version>`. Every secret in it was chosen for that and belongs to nobody.
"""

from __future__ import annotations

import base64
import json
import os
import pwd
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

from running import Facility, free_port
from specola import __version__
from specola.core.layout import SECRETS

FIXTURES = Path(__file__).with_name("fixtures")
FACILITY = """\
name: kept
identity:
  kind: embedded
  people:
    - {name: anna, full_name: Anna Rossi, groups: [physics]}
groups:
  physics: {}
"""
LOGINS = [{"username": "anna", "password": "test-only-password", "groups": ["physics"]}]
DUMP = ".sql"
LEFT_OUT = {"logs", "pids"}


def secret(name: str) -> str:
    """A value of the right form that says what it is for when it is decoded."""
    text = f"test-only {name}".ljust(32, ".")[:32].encode()
    return base64.urlsafe_b64encode(text).decode() if name == "gateway-db" else text.hex()


def dump(database: Path) -> str:
    """A database as SQL, with what `iterdump` leaves out."""
    with sqlite3.connect(database) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        lines = list(connection.iterdump())
    connection.close()
    return "\n".join([f"PRAGMA user_version={version};", *lines]) + "\n"


def restore(fixture: Path, state: Path) -> None:
    """The state directory as it was when its release was stopped."""
    shutil.copytree(fixture, state)
    for path in [state, *state.rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)
    for path in state.rglob(f"*{DUMP}"):
        target = path.with_suffix("")
        connection = sqlite3.connect(target)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(path.read_text())
        connection.close()
        target.chmod(0o600)
        path.unlink()


def keep(state: Path, fixture: Path) -> None:
    """Write what a state directory holds as text."""
    shutil.rmtree(fixture, ignore_errors=True)
    for path in sorted(state.rglob("*")):
        place = path.relative_to(state)
        target = fixture / place
        if place.parts[0] in LEFT_OUT or not path.is_file() or path.suffix in {".lock", ".pid"}:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.read_bytes().startswith(b"SQLite format 3"):
            target.with_name(target.name + DUMP).write_text(dump(path))
        else:
            target.write_text(path.read_text().replace(sys.prefix, "/opt/specola"))


def seed(state: Path) -> None:
    """The secrets and the password that the facility will find and keep."""
    (state / "secrets").mkdir(parents=True, mode=0o700)
    for name in SECRETS:
        (state / "secrets" / name).write_text(secret(name))
    (state / "demo-logins.json").write_text(json.dumps(LOGINS))
    for path in [state, *state.rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)


def main() -> None:
    """Make the fixture of this release; as root, everything runs as an ordinary account."""
    account = pwd.getpwnam("games").pw_uid if os.geteuid() == 0 else None
    place = Path(tempfile.mkdtemp(prefix="sp-", dir="/var/tmp"))
    state, source, port = place / "state", place / "facility.yaml", free_port()
    seed(state)
    source.write_text(FACILITY)
    if account is not None:
        for path in [place, *place.rglob("*")]:
            os.chown(path, account, account)
    command = ["up", "--detach", "--facility", str(source), "--state", str(state), "--port", str(port)]
    facility = Facility(state, port, command, account)
    try:
        facility.up()
        anna = facility.login("anna")
        anna.start_server()
        anna.api("GET", "me").raise_for_status()
        anna.stop_server()
        facility.stop()
        keep(state, FIXTURES / f"state-{__version__}")
    finally:
        facility.specola("stop", "--state", str(state), check=False)
        facility.specola("reset", "--yes", "--state", str(state), check=False)
        shutil.rmtree(place)


if __name__ == "__main__":
    sys.exit(main())
