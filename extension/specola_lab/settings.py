"""What a user's server is told by the facility that started it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

GIB = 1024**3


@dataclass(frozen=True)
class Settings:
    """Read once from the environment; `token` is kept out of every repr."""

    api_url: str
    token: str = field(repr=False)
    home: Path
    server: str
    quota_gib: float | None
    separate_accounts: bool = False
    facility: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether a facility started this server, so that there is something to relay to."""
        return bool(self.api_url and self.token)


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this process; empty ones outside of a facility."""
    quota = environment.get("SPECOLA_HOME_QUOTA_GIB", "")
    api_url = environment.get("SPECOLA_API_URL", "")
    return Settings(
        api_url=api_url if api_url.endswith("/") or not api_url else api_url + "/",
        token=environment.get("JUPYTERHUB_API_TOKEN", ""),
        home=Path(environment.get("HOME") or Path.home()),
        server=environment.get("JUPYTERHUB_SERVER_NAME", ""),
        quota_gib=float(quota) if quota else None,
        separate_accounts=environment.get("SPECOLA_SEPARATE_ACCOUNTS") == "1",
        facility=environment.get("SPECOLA_FACILITY", ""),
    )
