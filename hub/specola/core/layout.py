"""Where things lie on one machine."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

ROOT_BASE = Path("/var/lib/specola")
SERVICE_ACCOUNT = "specola"
SECRETS = (
    "cookie",
    "crypt",
    "proxy",
    "service",
    "service-cookie",
    "router",
    "gateway-proxy",
    "gateway-db",
    "issuer-client",
    "metrics",
)
"""The facility's own secrets, each a file of this name."""


def default_base(*, root: bool, home: Path) -> Path:
    """The directory that holds `state`, `homes` and `env` when nothing else is asked for."""
    return ROOT_BASE if root else home / ".local" / "share" / "specola"


@dataclass(frozen=True)
class Layout:
    """The places of one facility, all derived from its state directory.

    `state` is 0700 and belongs to the account that the facility's processes run as.
    `run` holds what only the privileged launcher may write (records of what it started, its socket):
    it must not lie in `state`, whose owner could swap it.
    """

    state: Path

    @property
    def id(self) -> str:
        """Eight hex digits that tell this facility from others on the same machine."""
        return hashlib.sha256(str(self.state).encode()).hexdigest()[:8]

    @property
    def run(self) -> Path:
        """Launcher socket, records of started programs, pid files; outside `state` on purpose."""
        return self.state.with_name(self.state.name + ".run")

    @property
    def homes(self) -> Path:
        """Homes of the people, unless the facility file names another place."""
        if self.state.name == "state":
            return self.state.with_name("homes")
        return self.state.with_name(self.state.name + ".homes")

    @property
    def launcher_socket(self) -> Path:
        """Where the launcher listens."""
        return self.run / "launcher.sock"

    @property
    def secrets(self) -> Path:
        """Directory of the facility's own secrets."""
        return self.state / "secrets"

    @property
    def logs(self) -> Path:
        """Directory of the logs of unprivileged processes."""
        return self.state / "logs"

    @property
    def database(self) -> Path:
        """The one database of the API service and the authenticator."""
        return self.state / "specola.sqlite"

    @property
    def facility_file(self) -> Path:
        """The facility file as it was when the facility was last started."""
        return self.state / "facility.yaml"

    @property
    def demo_logins(self) -> Path:
        """Names and passwords of the embedded issuer's people."""
        return self.state / "demo-logins.json"

    def secret(self, name: str) -> str:
        """Read one of the facility's own secrets, each a 0600 file."""
        return (self.secrets / name).read_text().strip()


def layout_from_environment() -> Layout:
    """The layout of the facility that this process belongs to (`SPECOLA_STATE`)."""
    return Layout(Path(os.environ["SPECOLA_STATE"]))
