"""Anna has a server with a kernel; Bruno has an account and is curious."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import probes
import pytest
from hubbing import Hub, hub
from running import Kernel
from specola.core import processinfo
from specola.core.accounts import Account

KERNEL_CONFIG = Path(__file__).parents[2] / "extension" / "etc" / "ipython" / "ipython_kernel_config.py"


@dataclass
class Neighbours:
    """Two people of one facility on one machine."""

    hub: Hub
    anna: Account
    bruno: Account
    kernel: Kernel
    pids: list[int]

    def bruno_tries(self, probe: str, *arguments: Any) -> Any:
        return probes.tried_by(self.bruno.uid, self.bruno.gid, probe, *arguments)

    def anna_tries(self, probe: str, *arguments: Any) -> Any:
        """The same as herself: shows that the probe finds what is there."""
        return probes.tried_by(self.anna.uid, self.anna.gid, probe, *arguments)


@pytest.fixture(scope="module")
def neighbours() -> Iterator[Neighbours]:
    with hub({"servers": {"memory_gib": 2}}) as running:
        client = running.place.client()
        anna = asyncio.run(client.account("anna"))
        bruno = asyncio.run(client.account("bruno"))
        (anna.home / "secret.txt").write_text("anna's")
        profile = anna.home / ".ipython" / "profile_default"
        profile.mkdir(parents=True)
        (profile / "ipython_kernel_config.py").write_text(KERNEL_CONFIG.read_text())
        for path in (anna.home / "secret.txt", profile.parent, profile, profile / "ipython_kernel_config.py"):
            path.chmod(0o755)
            os.chown(path, anna.uid, anna.gid)
        running.spawn("anna")
        session = SimpleNamespace(
            facility=SimpleNamespace(url=f"{running.url}/"), name="anna", token="test-token-of-the-test"
        )
        number = running.jupyter("POST", "anna", "kernels", json={"name": "python3"}).json()["id"]
        kernel = Kernel(session, number)  # type: ignore[arg-type]
        assert json.loads(kernel.run("print(6 * 7)")) == 42
        yield Neighbours(running, anna, bruno, kernel, processinfo.of_account(anna.uid))
        kernel.socket.close()
        running.stop_server("anna")
