"""Tells the facility once a minute what goes on here, so that it never stops a server that is in use."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

import aiohttp

from specola_lab import schedulers
from specola_lab.facility import Facility
from specola_lab.home import HomeUse

EVERY_SECONDS = 60.0
SOON_SECONDS = 10.0
"""while the home is measured for the first time"""


class Kernels(Protocol):
    """What we read of jupyter-server's kernel manager."""

    async def list_kernels(self) -> list[dict[str, Any]]:
        """Models with `execution_state` and `connections`."""


class Heartbeat:
    """Reports running cells, connected kernels, clusters and how full the home is."""

    def __init__(self, facility: Facility, kernels: Any, home: HomeUse, log: logging.Logger) -> None:
        self.facility = facility
        self.kernels = kernels
        self.home = home
        self.log = log
        self._task: asyncio.Task[None] | None = None

    async def observe(self) -> dict[str, Any]:
        """What is reported: three counts, and the bytes that the home holds as soon as they are known."""
        found = self.kernels.list_kernels()
        models = await found if asyncio.iscoroutine(found) else found
        return {
            "server": self.facility.settings.server,
            "kernels_busy": sum(1 for model in models if model.get("execution_state") == "busy"),
            "kernels_connected": sum(1 for model in models if model.get("connections", 0) > 0),
            "clusters": schedulers.count(self.home.home),
            "home_used": self.home.latest(),
        }

    async def beat(self) -> None:
        """Report once; a facility that does not answer is tried again a minute later."""
        try:
            async with self.facility.request("POST", "servers/activity", json=await self.observe()) as answer:
                if not answer.ok:
                    self.log.warning("The facility refused our activity report with status %d", answer.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            self.log.warning("The facility did not take our activity report: %s", type(error).__name__)

    async def _run(self) -> None:
        while True:
            await self.beat()
            await asyncio.sleep(SOON_SECONDS if self.home.latest() is None else EVERY_SECONDS)

    def start(self) -> None:
        """Begin, on the running loop."""
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """End, when the server shuts down."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
