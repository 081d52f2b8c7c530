"""Hard limits of homes, where the kernel enforces user quotas on their file system.

The kernel itself is asked (`quotactl_fd`, Linux 5.14), and neither mount options nor `setquota` are believed: a file
system mounted with `usrquota` enforces nothing until quotas are switched on, and `setquota` then writes into a file
on it and reports success. The call needs no block device, so that tmpfs and XFS are asked in the same way as ext4.
"""

from __future__ import annotations

import ctypes
import logging
import os
import struct
from pathlib import Path
from typing import Protocol

BLOCK = 1024
GIB = 1024**3
QUOTACTL_FD = 443
USRQUOTA = 0
GET, SET, STATE = 0x800007, 0x800008, 0x5805
ENFORCED = 0x0002
ONLY_BLOCKS = 1
LIMITS = struct.Struct("=8QII")
"""struct if_dqblk: hard and soft limit in KiB, bytes in use, the same of inodes, two times, what is valid"""

log = logging.getLogger(__name__)


class Kernel(Protocol):
    """What is asked of a kernel about the file system that a directory lies in; OSError where it cannot answer."""

    def enforces(self, directory: Path) -> bool:
        """Whether limits of accounts hold there now."""

    def hard_limit(self, directory: Path, uid: int) -> int:
        """An account's hard limit in KiB; 0 for none."""

    def limit(self, directory: Path, uid: int, kib: int) -> None:
        """Give an account a hard limit, and no soft one."""


class ThisKernel:
    """The kernel that this process runs on (tested on Linux 6.1 with ext4)."""

    def enforces(self, directory: Path) -> bool:
        """Also for those who are not root; a kernel without quotas does not enforce."""
        state = bytearray(256)
        try:
            _quotactl(directory, STATE, 0, state)
        except OSError:
            return False
        flags: int = struct.unpack_from("=H", state, 2)[0]
        return bool(flags & ENFORCED)

    def hard_limit(self, directory: Path, uid: int) -> int:
        """Of others only as root."""
        limits = bytearray(LIMITS.size)
        _quotactl(directory, GET, uid, limits)
        return int(LIMITS.unpack(limits)[0])

    def limit(self, directory: Path, uid: int, kib: int) -> None:
        """Only as root; limits of the number of files are left as they are."""
        _quotactl(directory, SET, uid, bytearray(LIMITS.pack(kib, *(0,) * 7, ONLY_BLOCKS, 0)))


def _quotactl(directory: Path, command: int, uid: int, data: bytearray) -> None:
    call = ctypes.CDLL(None, use_errno=True).syscall
    here = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        buffer = (ctypes.c_char * len(data)).from_buffer(data)
        words = (QUOTACTL_FD, here, command << 8 | USRQUOTA, uid)
        if call(*map(ctypes.c_long, words), buffer) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(directory))
    finally:
        os.close(here)


class HomeQuota:
    """The size that no home may grow beyond, as far as the file system helps."""

    def __init__(self, gib: float, kernel: Kernel | None = None) -> None:
        self._kib = max(1, int(gib * GIB) // BLOCK)
        self._kernel = kernel or ThisKernel()
        self._told: set[str] = set()

    def hold(self, home: Path, uid: int) -> bool:
        """Give the owner of a home the limit if they have another; whether it holds. No login fails because of it."""
        try:
            if not self._kernel.enforces(home):
                self._tell(f"quotas of accounts are not enforced in {home.parent}: homes are only measured")
                return False
            if self._kernel.hard_limit(home, uid) != self._kib:
                self._kernel.limit(home, uid, self._kib)
            held = self._kernel.hard_limit(home, uid) == self._kib
        except OSError as error:
            self._tell(f"no quota can be set in {home.parent} ({error.strerror}): homes are only measured")
            return False
        if not held:
            self._tell(f"the quota of {home.parent} is not kept by its file system: homes are only measured")
        return held

    def _tell(self, words: str) -> None:
        """Once, and not at every login."""
        if words not in self._told:
            self._told.add(words)
            log.warning("%s", words)
