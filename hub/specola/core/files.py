"""Files in places where others may write too: what they plant there leads nobody astray and keeps nobody waiting."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def open_regular(path: Path, flags: int = os.O_RDONLY) -> int:
    """Open a file; OSError for a link, and for a FIFO or device, which could block for ever."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor


def read_regular(path: Path, last: int = 1 << 20) -> str:
    """The end of a file, at most so many bytes of it."""
    with os.fdopen(open_regular(path), "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - last))
        return file.read(last).decode(errors="replace")


def replace_file(path: Path, text: str, *, group: int | None = None, durable: bool = True) -> None:
    """Replace a file in one step, 0600 or readable for a group; `durable` survives a power cut."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        if group is not None:
            os.fchown(file.fileno(), -1, group)
            os.fchmod(file.fileno(), 0o640)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    new.replace(path)
