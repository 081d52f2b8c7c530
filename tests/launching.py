"""A launcher for tests: a real process, as root or not, whose accounts, homes and groups are removed afterwards."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from specola.client.launcher import Launcher
from specola.core.accounts import Ledger
from specola.core.layout import Layout
from specola.launcher.reset import remains, reset

NOBODY = "nobody"


@dataclass
class Place:
    """One facility's directories, short enough for sockets, and its launcher."""

    top: Path
    user: str | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def layout(self) -> Layout:
        return Layout(self.top / "state")

    @property
    def ledger(self) -> Path:
        return self.top / "ledger" / "accounts.json"

    @property
    def arguments(self) -> list[str]:
        return ["--state", str(self.layout.state), "--ledger", str(self.ledger)]

    @property
    def log(self) -> str:
        return (self.top / "launcher.log").read_text()

    def client(self, wait: float = 120) -> Launcher:
        return Launcher(self.layout.launcher_socket, wait=wait)

    def start(self) -> None:
        self.layout.launcher_socket.unlink(missing_ok=True)
        with (self.top / "launcher.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "specola.launcher", *self.arguments],
                stderr=log,
                user=self.user,
                group=None if self.user is None else pwd.getpwnam(self.user).pw_gid,
                extra_groups=None if self.user is None else [],
                cwd="/",
                env={name: value for name, value in os.environ.items() if name.startswith(("PATH", "COV"))},
            )
        limit = time.monotonic() + 120
        while not self.layout.launcher_socket.exists():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < limit, self.log
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9, as the machine would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(120)


@contextlib.contextmanager
def place(user: str | None = None) -> Iterator[Place]:
    """Directories for one facility; whatever was made for it is removed at the end."""
    top = Path(tempfile.mkdtemp(prefix="sp", dir="/tmp"))
    top.chmod(0o711)
    if user is not None:
        shutil.chown(top, user)
    here = Place(top, user)
    try:
        yield here
    finally:
        here.stop()
        if user is None:
            ledger = Ledger(here.ledger)
            reset(here.layout, ledger, remains(here.layout, ledger))
        else:
            removal = "import sys; from specola.launcher import reset as r; from specola.core.layout import Layout; "
            removal += "l = Layout(__import__('pathlib').Path(sys.argv[1])); r.reset(l, None, r.remains(l, None))"
            subprocess.run([sys.executable, "-c", removal, str(here.layout.state)], check=True, user=user, cwd="/")
        shutil.rmtree(top)


@contextlib.contextmanager
def launcher(user: str | None = None) -> Iterator[Place]:
    """A launcher that runs."""
    with place(user) as here:
        here.start()
        yield here
