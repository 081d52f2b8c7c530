"""Anna has a server with a kernel; Bruno has an account and is curious."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hubbing import hub
from neighbours import Neighbours
from running import Kernel

KERNEL_CONFIG = Path(__file__).parents[2] / "extension" / "etc" / "ipython" / "ipython_kernel_config.py"


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
        server = json.loads((running.place.layout.run / "programs" / "server.anna").read_text())["pid"]
        yield Neighbours(running, anna, bruno, kernel, [server, int(kernel.run("import os; print(os.getpid())"))])
        kernel.socket.close()
        running.stop_server("anna")
