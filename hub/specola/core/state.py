"""The state directory: whose it is, which release wrote it."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from specola.core.errors import StateError
from specola.core.files import read_regular, replace_file
from specola.core.layout import Layout
from specola.core.rights import acting_as

VERSION = 1
"""Raised when a release changes what lies where; the database has a schema of its own."""


def version_file(layout: Layout) -> Path:
    """Says which version of the layout the directory has."""
    return layout.state / "version"


def prepare_state(layout: Layout, uid: int, gid: int) -> None:
    """Make the state directory (0700, owned by `uid`), or make sure that it can be used; else StateError."""
    state = layout.state
    if state.is_symlink() or (state.exists() and not state.is_dir()):
        raise StateError(f"{state} is not a directory: give another one with --state")
    new = not state.exists()
    if new:
        state.mkdir(mode=0o700, parents=True)
        _give(state, uid, gid)
    _refuse_foreign(state, uid)
    # As its owner, so that root follows no link that the owner has put there.
    with acting_as(uid, gid):
        try:
            _furnish(layout)
        except PermissionError as error:
            raise StateError(
                f"{_name(uid)} cannot reach {error.filename}: choose a state directory that it may enter"
            ) from None


def _furnish(layout: Layout) -> None:
    _refuse_newer(layout)
    layout.state.chmod(0o700)
    for part in (layout.secrets, layout.logs):
        part.mkdir(mode=0o700, exist_ok=True)
    if not version_file(layout).exists():
        replace_file(version_file(layout), f"{VERSION}\n")


def _give(path: Path, uid: int, gid: int) -> None:
    if os.geteuid() == 0:
        os.chown(path, uid, gid, follow_symlinks=False)


def _refuse_foreign(state: Path, uid: int) -> None:
    owner = state.stat().st_uid
    if owner != uid:
        raise StateError(
            f"{state} belongs to {_name(owner)}, not to {_name(uid)}: "
            "start as that account, or give another state directory with --state"
        )


def _refuse_newer(layout: Layout) -> None:
    try:
        text = read_regular(version_file(layout)).strip()
    except FileNotFoundError:
        if layout.database.exists() or not any(layout.state.iterdir()):
            return
        known = {"secrets", "logs", "facility.yaml", "runtime.json", "demo-logins.json"}
        if any(entry.name in known for entry in layout.state.iterdir()):
            return
        raise StateError(
            f"{layout.state} holds files that are not Specola's: give an empty or a new directory with --state"
        ) from None
    except PermissionError:
        raise
    except OSError:
        text = ""
    if not text.isdecimal():
        raise StateError(f"{version_file(layout)} is damaged: it should hold one number")
    if int(text) > VERSION:
        raise StateError(
            f"{layout.state} was written by a newer release of Specola "
            f"(state version {text}, this one knows {VERSION}): "
            "start that release, or give another state directory with --state"
        )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
