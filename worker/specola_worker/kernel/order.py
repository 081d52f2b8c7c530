"""What the facility's service tells a worker: a JSON file that only its own account can read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GIB = 1024**3
HOMES = ("shared", "sync", "none")
PORTS = ("shell", "iopub", "stdin", "control", "hb")
"""a kernel's sockets in the order of their numbers: `<prefix>-1` is the shell's"""


class OrderError(Exception):
    """The file is not an order, or asks for what this worker cannot do."""


@dataclass(frozen=True)
class Order:
    """One kernel to start and the server to dial; sizes in bytes, times in seconds."""

    relay_url: str
    secret: str = field(repr=False)
    lease: str
    kernel_id: str
    kernel_name: str = "python3"
    grace: float = 60.0
    directory: str = ""
    home: str = "shared"
    simulated: bool = False
    gpu: dict[str, Any] = field(default_factory=dict)
    snapshot_limit: int = 2 * GIB

    def __post_init__(self) -> None:
        if not self.relay_url.startswith(("ws://", "wss://")):
            raise OrderError("relay_url is no websocket address")
        if self.home not in HOMES:
            raise OrderError(f"home is one of {', '.join(HOMES)}")
        if self.kernel_name != "python3":
            raise OrderError(f"this worker starts the kernel python3 only, not {self.kernel_name!r}")


def read(path: Path) -> Order:
    """The order in a file; fields that this worker does not know are left aside."""
    try:
        told = json.loads(path.read_text())
        known = {name: told[name] for name in Order.__dataclass_fields__ if name in told}
        return Order(**known)
    except (OSError, ValueError, TypeError) as error:
        raise OrderError(f"{path} is no order: {type(error).__name__}") from None
