"""The size of a home is held by the kernel where it can be, and never stands in a login's way."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import quota_guest
from launching import Place, place
from specola.core.accounts import Ledger
from specola.core.people import SeparateAccounts
from specola.core.quota import HomeQuota, ThisKernel
from specola.launcher.__main__ import settings

UML = shutil.which("linux.uml")
HOME = Path("/homes/anna")


class Fake:
    """A kernel that may have quotas off, refuse to set a limit (with an error number), or take it and forget it."""

    def __init__(self, *, on: bool = True, refuses: int = 0, forgets: bool = False) -> None:
        self.on, self.refuses, self.forgets = on, refuses, forgets
        self.limits: dict[int, int] = {}
        self.set = 0

    def enforces(self, directory: Path) -> bool:
        return self.on

    def hard_limit(self, directory: Path, uid: int) -> int:
        return self.limits.get(uid, 0)

    def limit(self, directory: Path, uid: int, kib: int) -> None:
        self.set += 1
        if self.refuses:
            raise OSError(self.refuses, os.strerror(self.refuses))
        if not self.forgets:
            self.limits[uid] = kib


def test_the_limit_is_set_once() -> None:
    kernel = Fake()
    quota = HomeQuota(1.5, kernel)
    assert [quota.hold(HOME, 30_000) for _ in range(3)] == [True] * 3
    assert kernel.limits == {30_000: 1536 * 1024}
    assert kernel.set == 1


def test_another_quota_replaces_the_limit() -> None:
    kernel = Fake()
    assert HomeQuota(2, kernel).hold(HOME, 30_000)
    assert HomeQuota(1, kernel).hold(HOME, 30_000)
    assert kernel.limits == {30_000: 1024 * 1024}


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (Fake(on=False), "not enforced in /homes"),
        (Fake(refuses=errno.EPERM), "Operation not permitted"),
        (Fake(forgets=True), "not kept by its file system"),
    ],
    ids=["quotas are off", "refused", "forgotten"],
)
def test_a_quota_that_cannot_be_held_is_said_once(kernel: Fake, words: str, caplog: pytest.LogCaptureFixture) -> None:
    quota = HomeQuota(1, kernel)
    with caplog.at_level(logging.WARNING):
        assert [quota.hold(HOME, 30_000), quota.hold(HOME, 30_001)] == [False, False]
    assert len(caplog.messages) == 1
    assert words in caplog.text


def test_what_this_kernel_cannot_tell_is_not_enforced(tmp_path: Path) -> None:
    assert not ThisKernel().enforces(tmp_path / "nowhere")
    assert HomeQuota(1).hold(tmp_path / "nowhere", 30_000) is False
    with pytest.raises(OSError, match="nowhere"):
        ThisKernel().hard_limit(tmp_path / "nowhere", 30_000)


def test_a_file_system_without_quotas_is_told_so() -> None:
    assert not ThisKernel().enforces(Path("/proc"))
    with pytest.raises(OSError, match="/proc"):
        ThisKernel().limit(Path("/proc"), 30_000, 1)
    with pytest.raises(OSError, match="/proc"):
        ThisKernel().hard_limit(Path("/proc"), 30_000)


def test_the_launcher_takes_it_from_its_command_line(tmp_path: Path) -> None:
    assert settings(["--state", str(tmp_path)]).quota_gib is None
    assert settings(["--state", str(tmp_path), "--quota-gib", "20.5"]).quota_gib == 20.5


@pytest.mark.needs_root
@pytest.mark.parametrize("kernel", [Fake(), Fake(refuses=errno.EIO)], ids=["held", "refused"])
def test_an_account_gets_its_limit_whenever_it_is_used(kernel: Fake) -> None:
    with place() as here:
        account = asyncio.run(people(here, kernel).account("anna"))
        assert account.home.is_dir()
        assert kernel.set == 1
        assert kernel.limits == ({} if kernel.refuses else {account.uid: 1024 * 1024})


def people(here: Place, kernel: Fake) -> SeparateAccounts:
    return SeparateAccounts(here.layout, here.layout.homes, Ledger(here.ledger), HomeQuota(1, kernel))


@pytest.mark.skipif(UML is None, reason="apt-get install user-mode-linux: this test boots a kernel that has quotas")
def test_a_real_kernel_ends_a_write_at_the_quota(tmp_path: Path) -> None:
    """On ext4 with quotas on; on the same file system without them nothing is enforced, and that is known too."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    quotas = ["-O", "quota", "-E", "quotatype=usrquota"]
    subprocess.run(["/sbin/mkfs.ext4", "-q", *quotas, str(image)], check=True)
    machine = [str(UML), "mem=512M", "rootfstype=hostfs", "rootflags=/", "ro", f"ubd0={image}"]
    console = ["con=null", "con0=fd:0,fd:1", f"init={sys.executable}", "--", quota_guest.__file__]
    done = subprocess.run([*machine, *console], stdin=subprocess.DEVNULL, capture_output=True, timeout=600, check=False)
    output = done.stdout.decode(errors="replace")
    if "as init process" not in output:
        pytest.skip(f"user-mode Linux does not boot on this machine: {output[-300:]}")
    (line,) = [line for line in output.splitlines() if line.startswith(quota_guest.MARK)]
    seen = json.loads(line.removeprefix(quota_guest.MARK))
    assert seen["usrquota"] == {"enforces": True, "holds": [True, True], "limit": 2048, "written": 1}
    assert seen["noquota"] == {"enforces": False, "holds": [False, False], "limit": 2048, "written": 8}
