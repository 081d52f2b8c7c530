"""A folder that travels piece by piece, used at both ends of the wire.

The smallest files go first, so that notebooks and scripts come before data when not everything fits. Hidden files,
links and what Python writes for itself stay. What arrives is written aside and put in its place when it is complete; a
file that has changed at both ends is kept at both, the one that came under a name of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

PIECE = 1024**2
LIMIT = 256 * 1024**2
"""bytes of a working folder, in each direction"""
MOST_FILES = 20_000
NOT_CARRIED = {"__pycache__", "node_modules"}
NO_ROOM = "no room left within the limit"


class CarryError(Exception):
    """The other end sent what must not be written."""


@dataclass(frozen=True)
class Entry:
    """One file: path below the folder, size in bytes, time of its last change in ns."""

    path: str
    size: int
    changed: int


@dataclass
class Cargo:
    """What goes, and what is left out and why."""

    entries: list[Entry] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(entry.size for entry in self.entries)


def _stays(name: str) -> bool:
    return name.startswith(".") or name in NOT_CARRIED


def look(folder: Path) -> list[Entry]:
    """The files that may travel, smallest first."""
    found = []
    for directory, names, files in os.walk(folder):
        names[:] = [name for name in names if not _stays(name)]
        for name in files:
            path = Path(directory, name)
            if name.startswith(".") or path.is_symlink() or not path.is_file():
                continue
            try:
                facts = path.stat()
            except OSError:  # gone meanwhile
                continue
            found.append(Entry(str(path.relative_to(folder)), facts.st_size, facts.st_mtime_ns))
    return sorted(found, key=lambda entry: (entry.size, entry.path))


def pack(entries: list[Entry], limit: int) -> Cargo:
    """As many of the smallest as fit into `limit` bytes."""
    cargo, room = Cargo(), limit
    for entry in entries:
        if entry.size <= room and len(cargo.entries) < MOST_FILES:
            cargo.entries.append(entry)
            room -= entry.size
        else:
            cargo.left_out.append({"name": entry.path, "why": NO_ROOM})
    return cargo


def changed(entries: list[Entry], before: dict[str, Entry]) -> list[Entry]:
    """Those that are new or not as they were."""
    return [entry for entry in entries if before.get(entry.path) != entry]


def pieces(folder: Path, entry: Entry) -> Iterator[tuple[dict[str, Any], bytes]]:
    """A file as messages: what each is, and its bytes, as many as it had when it was looked at.

    One that is gone meanwhile or cannot be read makes none.
    """
    try:
        file = (folder / entry.path).open("rb")
    except OSError:
        return
    with file:
        offset = 0
        while True:
            data = file.read(min(PIECE, entry.size - offset))
            last = not data or offset + len(data) == entry.size
            yield {"path": entry.path, "offset": offset, "last": last, "changed": entry.changed}, data
            offset += len(data)
            if last:
                return


class Receiver:
    """Writes what comes below one folder, `limit` bytes at most; `known` says how files were when they left here."""

    def __init__(self, folder: Path, limit: int, known: dict[str, Entry] | None = None) -> None:
        self._folder = folder
        self._room = limit
        self._known = known
        self._open: dict[str, BinaryIO] = {}
        self.came: dict[str, Entry] = {}
        self.beside: list[str] = []
        """files that had changed here too, under the names that they got"""

    def take(self, said: dict[str, Any], data: bytes) -> None:
        """Take one piece; CarryError when it is none of a file below the folder, or too much."""
        path = str(said["path"])
        target = self._target(path)
        aside = target.with_name(f".{target.name}.coming")
        self._room -= len(data)
        if self._room < 0:
            raise CarryError("more came than was agreed")
        if said["offset"] == 0:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._open[path] = aside.open("wb")
        file = self._open.get(path)
        if file is None or file.tell() != said["offset"]:
            raise CarryError(f"a piece of {path} is missing")
        file.write(data)
        if said["last"]:
            del self._open[path]
            size = file.tell()
            file.close()
            os.utime(aside, ns=(int(said["changed"]), int(said["changed"])))
            place = self._place(path, target)
            aside.replace(place)
            self.came[path] = Entry(path, size, int(said["changed"]))

    def _target(self, path: str) -> Path:
        parts = Path(path).parts
        target = self._folder.joinpath(*parts)
        # what begins with a dot does not travel: a shell, ssh or IPython would do what it says
        allowed = parts and not Path(path).is_absolute() and not any(_stays(part) for part in parts)
        if not allowed or not target.parent.resolve().is_relative_to(self._folder.resolve()):
            raise CarryError("a path that leaves its folder, or a hidden one")
        return target

    def _place(self, path: str, target: Path) -> Path:
        if self._known is None or not target.exists():
            return target
        facts = target.stat()
        if self._known.get(path) == Entry(path, facts.st_size, facts.st_mtime_ns):
            return target
        beside = target.with_name(f"{target.stem}.from-gpu{target.suffix}")
        self.beside.append(str(beside.relative_to(self._folder)))
        return beside

    def close(self) -> None:
        """Forget what came in part only."""
        for path, file in self._open.items():
            file.close()
            target = self._target(path)
            target.with_name(f".{target.name}.coming").unlink(missing_ok=True)
        self._open.clear()
