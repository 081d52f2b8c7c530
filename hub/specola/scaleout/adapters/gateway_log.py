"""The gateway's log: one line a record, redacted as everywhere, without the polling of every second."""

from __future__ import annotations

import logging

from specola.core import log
from specola.scaleout.adapters.for_service import CLUSTERS

UPSTREAM = "DaskGateway"
ROUTINE = (f"200 GET {CLUSTERS}", "/heartbeat ", "heartbeat [count", "200 GET /api/health")


def says_something(record: logging.LogRecord) -> bool:
    """Whether a record is more than the routine of a gateway that is well."""
    return record.levelno > logging.INFO or not any(part in record.getMessage() for part in ROUTINE)


def adopt() -> None:
    """Send what dask-gateway logs through our own handler; call it while its configuration is read."""
    log.setup("gateway")
    upstream = logging.getLogger(UPSTREAM)
    upstream.handlers[:] = []
    upstream.setLevel(logging.INFO)
    upstream.propagate = True
    upstream.addFilter(says_something)
