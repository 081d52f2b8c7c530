"""Preload of a scheduler: dask-gateway's own service, with three things changed.

* it starts with the number of workers that was asked for with the cluster (`SPECOLA_WORKERS`),
* its heartbeat also carries what the panel shows, and comes soon after a worker joined,
* an idle cluster says so before it ends itself, and tries again when the gateway is away.

The API that the gateway calls listens on loopback only and asks for the cluster's token.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from dask_gateway import scheduler_preload as upstream

from specola_worker import preload
from specola_worker.routes import idle_since

log = logging.getLogger("distributed.scheduler")

WORKERS = "SPECOLA_WORKERS"

__all__ = ["SchedulerService", "dask_setup", "preload"]


class Reporter:
    """A gateway client whose heartbeats carry a report of ours under `specola`."""

    def __init__(self, client: Any, service: SchedulerService) -> None:
        self.client = client
        self.service = service
        self.token = client.token
        self.ending = ""
        self.last: dict[str, Any] = {}

    async def heartbeat(self, message: dict[str, Any]) -> None:
        """Send upstream's message and our report."""
        self.last = message
        await self.client.heartbeat({**message, "specola": {**self.service.report(), "ending": self.ending}})

    async def shutdown(self) -> None:
        """End this cluster because it is idle. A gateway that is away is asked again at the next check."""
        self.ending = f"No work for {self.service.idle_timeout:.0f} s."
        try:
            await self.heartbeat(self.last)
            await self.client.shutdown()
        except Exception:
            log.warning("the gateway does not answer; an idle cluster stays", exc_info=True)
            self.ending = ""


class SchedulerService(upstream.GatewaySchedulerService):
    """What the gateway talks to inside the scheduler."""

    def __init__(self, scheduler: Any, **settings: Any) -> None:
        super().__init__(scheduler, **settings)
        self.gateway: Reporter = Reporter(settings["gateway"], self)
        self.count = int(os.environ.get(WORKERS, "0"))

    def worker_added(self, worker_address: str) -> None:
        """Tell the gateway soon: a person watches the number grow."""
        super().worker_added(worker_address)
        self.waiter.interrupt_soon()

    def report(self) -> dict[str, Any]:
        """What only the scheduler knows."""
        adaptive = None
        if self.adapt_task is not None:
            adaptive = {"minimum": self.minimum or 0, "maximum": self.maximum}
        return {"adaptive": adaptive, "idle_since": idle_since(self.scheduler)}


upstream.GatewaySchedulerService = SchedulerService  # dask_setup looks the name up when it runs
dask_setup = upstream.dask_setup
