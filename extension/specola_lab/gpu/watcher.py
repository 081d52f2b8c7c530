"""Follows the service's events for this person's leases, and does what they ask of this server.

One stream for the whole server, opened again when it breaks; while nothing happens nothing is done. A lease that is
`saving` gets its kernel saved; one that has ended takes its kernel with it; one that is `offered` with `on_grant`
kernel or notebook gets its kernel here, also with no browser open. What a kernel does is reported every half minute,
and at once when it changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from specola_lab.gpu.half import GpuHalf
from specola_lab.gpu.lessor import Lease, LeaseError, over
from specola_lab.gpu.links import KernelLink

REPORT_SECONDS = 30.0
SOON_SECONDS = 1.0
"""changes within this are one report"""
PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
NO_SCOPE_SECONDS = 600.0
SAVING = ("saving",)
ENDED = ("ending", "ended")
UNREADABLE = (HttpProcessingError, ValueError)
"""an event of half a MiB; it would come again and again to who asks for what followed the last that was read"""

Start = Callable[[Lease], Awaitable[None]]


async def messages(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Events of a stream with their ids."""
    name, data = "", ""
    async for raw in answer.content:
        line = raw.decode().rstrip("\r\n")
        if line.startswith("id:"):
            name = line[3:].strip()
        elif line.startswith("data:"):
            data += line[5:].strip()
        elif not line and data:
            with contextlib.suppress(ValueError):
                yield name, json.loads(data)
            data = ""


class Watcher:
    """One background task for events and one for reports."""

    def __init__(self, half: GpuHalf, start: Start, log: logging.Logger) -> None:
        self.half = half
        self.start_kernel = start
        self.log = log
        self._last = ""
        self._saving: set[str] = set()
        self._started: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin, on the running loop."""
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._report_for_ever())]

    async def stop(self) -> None:
        """End, when the server shuts down."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.half.close()

    # events

    async def _follow(self) -> None:
        failures = 0
        while True:
            try:
                pause = await self._listen()
                failures = 0
            except (aiohttp.ClientError, TimeoutError, LeaseError, *UNREADABLE) as error:
                if isinstance(error, UNREADABLE):
                    self._last = ""
                pause = PAUSES[min(failures, len(PAUSES) - 1)]
                failures += 1
                self.log.debug("the events of the facility: %s", type(error).__name__)
            await asyncio.sleep(pause)

    async def _listen(self) -> float:
        """Read one stream to its end; how long to wait before the next."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": self._last} if self._last else {})
        async with self.half.leases.facility.request("GET", "events", headers=headers, endless=True) as answer:
            if answer.status != HTTPStatus.OK:
                return NO_SCOPE_SECONDS if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR else PAUSES[-1]
            await self.look()
            async for name, event in messages(answer):
                self._last = name or self._last
                if event.get("type") == "resync":
                    await self.look()
                elif event.get("type") == "gpu.lease":
                    self.see(event["data"])
        return PAUSES[0]

    async def look(self) -> None:
        """Read the present state anew."""
        try:
            for lease in await self.half.leases.list():
                self.see(lease)
        except LeaseError as error:
            if error.status not in {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:  # a facility without GPUs
                raise

    def see(self, lease: Lease) -> None:
        """Do what a lease asks of this server."""
        self.half.leases.update(lease)
        name, state = lease["id"], lease["state"]
        link = self.half.registry.of_lease(name)
        if state in SAVING and name not in self._saving:
            self._saving.add(name)
            self.half.begin(self._save(lease, link))
        elif state in ENDED and link is not None:
            self.half.begin(link.end(over(lease)))
        elif state == "offered" and link is None and lease["on_grant"] in {"kernel", "notebook"}:
            self._begin_kernel(lease)

    def _begin_kernel(self, lease: Lease) -> None:
        if lease["id"] not in self._started and lease.get("server") is None:
            self._started.add(lease["id"])
            self.half.begin(self.start_kernel(lease))

    async def _save(self, lease: Lease, link: KernelLink | None) -> None:
        """Save what is to be saved and say so; a lease without a kernel here is another server's, or has none."""
        if link is None or link.left:
            return
        nothing: dict[str, Any] = {"names": [], "failed": [], "hooks": 0, "size": 0}
        result = await self.half.save(link) if link.alive else nothing
        try:
            await self.half.leases.saved(lease["id"], result)
        except LeaseError as error:
            self.log.warning("lease %s: what was saved could not be told: %s", lease["id"], error)
        self._saving.discard(lease["id"])

    # reports

    async def _report_for_ever(self) -> None:
        while True:
            self.half.changed.clear()
            active = [link for link in self.half.registry.links.values() if link.state == "ready"]
            for link in active:
                await self._report(link)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_SECONDS if active else None):
                    await self.half.changed.wait()
                await asyncio.sleep(SOON_SECONDS)

    async def _report(self, link: KernelLink) -> None:
        """Say whether the kernel is busy, since when, and whether it has registered a checkpoint."""
        word, since = self.half.doing[link.kernel_id]
        try:
            lease = await self.half.leases.report(link.lease, word, since, checkpoint=link.hooks > 0)
        except LeaseError as error:
            self.log.debug("lease %s: %s", link.lease, error)
        else:
            self.see(lease)
