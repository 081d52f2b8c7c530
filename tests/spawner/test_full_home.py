"""A home without a byte left: its owner can still log in, run cells and tidy up."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hubbing import Hub, hub
from running import Kernel, wait_for

pytestmark = pytest.mark.needs_root


@pytest.fixture
def full() -> Iterator[Hub]:
    with hub() as running:
        account = asyncio.run(running.place.client().account("anna"))
        options = f"size=1m,nr_inodes=12,mode=700,uid={account.uid},gid={account.gid}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", account.home], check=True)
        try:
            with pytest.raises(OSError, match="No space"):
                (account.home / "big.root").write_bytes(bytes(4 << 20))
            with pytest.raises(OSError, match="No space"):
                fill_inodes(account.home)
            yield running
        finally:
            for key in asyncio.run(running.place.client().end_all("")):
                print("ended", key)
            wait_for(lambda: subprocess.run(["umount", account.home], check=False).returncode == 0, 60, "a free home")


def fill_inodes(home: Path) -> None:
    for number in range(99):
        (home / f"{number}").touch()


def test_server_starts_in_a_full_home(full: Hub) -> None:
    full.spawn("anna")
    session = SimpleNamespace(facility=SimpleNamespace(url=f"{full.url}/"), name="anna", token="test-token-of-the-test")
    answer = full.jupyter("POST", "anna", "kernels", json={"name": "python3"})
    assert answer.is_success, asyncio.run(full.place.client().log("server.anna", 9000))
    kernel = Kernel(session, answer.json()["id"])  # type: ignore[arg-type]
    code = "import os, tempfile; os.remove('big.root'); print(open('again.txt', 'w').write('room'), os.getcwd())"
    assert kernel.run(code).startswith("4 ")
    kernel.socket.close()
