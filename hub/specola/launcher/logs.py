"""What programs write, in files of the launcher's own: outside every quota, and so bounded here."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path

from specola.core.errors import NotFound
from specola.core.files import open_regular, read_regular

LIMIT = 20 * 1024 * 1024
KEPT = 1024 * 1024
OLD = 3600.0
PASSING = ("cluster.", "gpu.", "gpu-site.")
"""Keys of these beginnings are never used again"""
BLOCK = 512

log = logging.getLogger(__name__)


class Logs:
    """One file a key; the directory is the launcher's alone."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, exist_ok=True)

    def open(self, key: str) -> int:
        """A descriptor for a program's output; every write goes to the end, wherever that is by then."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        return os.open(self._directory / f"{key}.log", flags, 0o600)

    def tail(self, key: str, size: int) -> str:
        """The end of what a program has written."""
        try:
            return read_regular(self._directory / f"{key}.log", size)
        except FileNotFoundError:
            raise NotFound("No such log") from None

    def tidy(self, running: set[str]) -> None:
        """Shorten what has grown too long, and remove what an ended cluster or GPU kernel left an hour ago."""
        for path in self._directory.glob("*.log"):
            with contextlib.suppress(FileNotFoundError):
                found = path.lstat()
                if found.st_blocks * BLOCK > LIMIT:
                    _shorten(path)
                forgotten = path.name.startswith(PASSING) and path.stem not in running
                if forgotten and found.st_mtime < time.time() - OLD:
                    path.unlink()


def _shorten(path: Path) -> None:
    """Keep the end; the program goes on writing to the same file."""
    end = read_regular(path, KEPT)
    with os.fdopen(open_regular(path, os.O_WRONLY | os.O_APPEND), "w") as file:
        file.truncate(0)
        file.write(f"[what was here before was removed: a log has at most {LIMIT >> 20} MiB]\n{end}")
    log.info("shortened %s", path.name)
