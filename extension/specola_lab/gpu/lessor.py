"""The facility's service, as far as GPU leases of this person go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import aiohttp

from specola_lab.facility import Facility

Lease = dict[str, Any]
STARTABLE = ("offered", "starting")
OVER = ("expiring", "saving", "ending", "ended")
HOW_TO_ASK = (
    "You hold no GPU. Ask for one in the panel under GPU, or in a notebook: "
    "from specola_lab import gpu; gpu.request(gib=16, hours=2). The kernel starts when it is granted."
)
CAUSES = {
    "term": "The time of its GPU lease was over.",
    "reclaimed": "Its GPU was idle, and somebody else waited for it.",
    "drained": "Its GPU is taken out of service.",
    "released": "Its GPU was given back.",
}


class LeaseError(Exception):
    """What the facility refused, in words for the person; `status` is that of the answer, 0 for none."""

    def __init__(self, words: str, status: int = 0) -> None:
        super().__init__(words)
        self.status = status


class Leases:
    """Questions about leases, and the newest answer to each."""

    def __init__(self, facility: Facility) -> None:
        self.facility = facility
        self.known: dict[str, Lease] = {}
        self._changed = asyncio.Event()

    def update(self, lease: Lease) -> Lease:
        """Take note of a lease as the service describes it."""
        self.known[lease["id"]] = lease
        self._changed.set()
        self._changed = asyncio.Event()
        return lease

    async def change(self, seconds: float) -> None:
        """Wait until something is known newly, for so long at most."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            async with self.facility.request(method, f"gpu/{path}", json=body) as answer:
                text = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise LeaseError("The facility service does not answer. It is being restarted: try again.") from error
        try:
            said = json.loads(text) if text else {}
        except ValueError:
            said = {}
        if answer.status >= HTTPStatus.BAD_REQUEST:
            words = ": ".join(part for part in (said.get("title", "").rstrip("."), said.get("detail", "")) if part)
            raise LeaseError(words or f"The facility answered {answer.status}.", answer.status)
        return said

    def _path(self, lease: str, *rest: str) -> str:
        return "/".join(["leases", quote(lease, safe=""), *rest])

    async def list(self) -> list[Lease]:
        """All of this person's."""
        found = await self._ask("GET", "leases")
        return [self.update(lease) for lease in found["items"]]

    async def get(self, lease: str) -> Lease:
        """One."""
        return self.update(await self._ask("GET", self._path(lease)))

    async def choose(self, wanted: str | None, busy: Collection[str]) -> Lease:
        """The lease for a new kernel: the wanted one, or the newest that waits for one; LeaseError says how to ask."""
        if wanted:
            lease = await self.get(wanted)
            if lease["state"] not in STARTABLE:
                raise LeaseError(over(lease) if lease["state"] in OVER else "This GPU lease has its kernel already.")
            return lease
        waiting = [
            lease
            for lease in await self.list()
            if lease["state"] in STARTABLE and lease["id"] not in busy and lease.get("server") is None
        ]
        if not waiting:
            raise LeaseError(HOW_TO_ASK)
        return max(waiting, key=lambda lease: str(lease["granted"]))

    def token(self, lease: str) -> int:
        """The newest fencing token that is known."""
        return int(self.known[lease]["token"])

    async def start_kernel(self, lease: str, **body: Any) -> Lease:
        """Ask for the worker of a kernel; asked again it is the same one."""
        return self.update(await self._ask("POST", self._path(lease, "kernel"), {"token": self.token(lease), **body}))

    async def home_of(self, pool: str) -> str:
        """What kernels of a pool see of the home, in the facility's own words: `shared`, `sync` or `none`."""
        offers = await self._ask("GET", "offers")
        return next((str(one["home"]) for one in offers["pools"] if one["name"] == pool), "none")

    async def confirm(self, lease: str) -> Lease:
        """The kernel is ready: the lease's clock starts."""
        return self.update(await self._ask("POST", self._path(lease, "confirm"), {"token": self.token(lease)}))

    async def report(self, lease: str, kernel: str, since: float, *, checkpoint: bool) -> Lease:
        """What the kernel does."""
        body = {"token": self.token(lease), "kernel": kernel, "since": since, "checkpoint": checkpoint}
        return self.update(await self._ask("POST", self._path(lease, "activity"), body))

    async def saved(self, lease: str, result: dict[str, Any]) -> None:
        """The kernel has been saved, or could not be: the lease may end."""
        await self._ask("POST", self._path(lease, "saved"), {"token": self.token(lease), **result})

    async def release(self, lease: str) -> None:
        """Give it back."""
        await self._ask("DELETE", self._path(lease) + f"?token={self.token(lease)}")


def over(lease: Lease) -> str:
    """Why a lease ended, or is about to, in a sentence."""
    return lease.get("reason") or CAUSES.get(str(lease.get("cause")), "Its GPU lease has ended.")
