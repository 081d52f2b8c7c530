"""Two people of one facility on one machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import probes
from hubbing import Hub
from running import Kernel
from specola.core.accounts import Account


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
