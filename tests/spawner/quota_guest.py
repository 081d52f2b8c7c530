"""The first process of a user-mode Linux kernel with quotas: what our code sees and does there, as a line of JSON.

Most kernels of virtual machines and containers are built without quotas, so that the host's cannot be asked.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from specola.core.quota import HomeQuota, ThisKernel

MARK = "SEEN IN THE GUEST: "
MODULES = Path("/usr/lib/uml/modules")
PLACE = Path("/mnt")
UID = 30_001
GIB_OF_2_MIB = 2 / 1024
FINIT_MODULE = 313
MIB, MIB_TRIED = 1 << 20, 8


def load(name: str) -> None:
    """`insmod`, without the package that it comes in."""
    file = os.open(MODULES / os.uname().release / "kernel/fs/quota" / name, os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).syscall(FINIT_MODULE, file, b"", 0) != 0:
        raise OSError(ctypes.get_errno(), name)
    os.close(file)


def write(home: Path) -> int:
    """MiB that the account can write into its home, of eight."""
    child = os.fork()
    if child == 0:
        os.setgid(UID)
        os.setuid(UID)
        done = 0
        with (home / "big").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while done < MIB_TRIED and file.write(bytes(MIB)) == MIB:
                done += 1
        os._exit(done)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def seen(options: str) -> dict[str, Any]:
    """The file system mounted with some options, and what a quota of 2 MiB does there."""
    subprocess.run(["/bin/mount", "-t", "ext4", "-o", options, "/dev/ubda", str(PLACE)], check=True)
    kernel, home = ThisKernel(), PLACE / options
    home.mkdir()
    os.chown(home, UID, UID)
    quota = HomeQuota(GIB_OF_2_MIB)
    found = {
        "enforces": kernel.enforces(home),
        "holds": [quota.hold(home, UID), quota.hold(home, UID)],
        "limit": kernel.hard_limit(home, UID),
        "written": write(home),
    }
    subprocess.run(["/bin/umount", str(PLACE)], check=True)
    return found


def main() -> None:
    """As process 1: nothing is mounted yet, and the machine ends with us."""
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    subprocess.run(["/bin/mount", "-t", "proc", "none", "/proc"], check=True)
    try:
        for name in ("quota_tree.ko", "quota_v2.ko"):
            load(name)
        sys.stdout.write(
            "\n" + MARK + json.dumps({options: seen(options) for options in ("usrquota", "noquota")}) + "\n"
        )
    finally:
        sys.stdout.flush()
        Path("/proc/sysrq-trigger").write_text("o")
        time.sleep(10)


if __name__ == "__main__":
    main()
