"""`/services/specola/gpu`: the operators' view of the GPUs, drawn by the server; its script only fetches it again.

Who holds what since when, busy or idle and how that is known, who waits, how scattered the free room is, and a
button at each GPU that drains it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from tornado.routing import URLSpec

from specola.core.errors import Forbidden, Unauthenticated
from specola.core.scopes import ADMIN
from specola.gpu.api import Fragmentation, Gpu, HeldBy
from specola.gpu.service import GpuService
from specola.http.app import Surroundings
from specola.http.auth import PREFIX
from specola.http.openapi import BASE
from specola.server.page import Facts, HtmlHandler, templates, xsrf

MINUTE = 60
HOUR = 3600
SIGNALS = {
    "gpu": "GPU counters",
    "process": "processes and memory",
    "kernel": "kernel state",
    "person": "its person's word",
    "none": "not measured yet",
}


def ago(at: datetime, now: datetime) -> str:
    """How long ago something was, in its two largest units; the same for what is still to come."""
    seconds = abs(round((now - at).total_seconds()))
    if seconds < MINUTE:
        return f"{seconds} s"
    hours, minutes = divmod(seconds // MINUTE, MINUTE)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def use(held: HeldBy, now: datetime) -> str:
    """Busy or idle, since when and by which signal."""
    what = "in use" if held.idle_since is None else f"idle for {ago(held.idle_since, now)}"
    return f"{what} ({SIGNALS[held.signal]})"


def scattered(found: Fragmentation) -> str:
    """`2 of 3`: how many fit now of those that would if the free room lay together."""
    return f"{found.now} of {found.joined}"


def room(gpu: Gpu) -> str:
    """`3 of 8 free`."""
    free = sum(part.size for part in gpu.parts if part.state == "free")
    return f"{free} of {gpu.slots} free"


templates.filters |= {"ago": ago, "use": use, "scattered": scattered, "room": room}


class GpuPage(HtmlHandler):
    """For operators only."""

    def initialize(self, surroundings: Surroundings, facts: Facts, gpus: GpuService) -> None:  # type: ignore[override]
        """Called by tornado for each request."""
        super().initialize(surroundings, facts)
        self.gpus = gpus

    async def prepare(self) -> None:
        """The page fetches itself anew: whoever is logged in may."""

    async def get(self) -> None:
        """Everything as it is now."""
        caller = await self.surroundings.doorkeeper.visitor(self)
        if caller is None:
            if self.request.headers.get("Sec-Fetch-Mode", "navigate") != "navigate":
                raise Unauthenticated("Log in first")
            self.redirect(self.get_login_url())
            return
        self.caller = caller
        if caller.kind != "user" or not caller.may(ADMIN):
            raise Forbidden("This page is for operators", "It shows who holds which GPU.")
        seen = await self.gpus.overview()
        self.set_header("Cache-Control", "no-store")
        self.show(
            "gpu.html",
            seen=seen,
            now=datetime.now(UTC),
            names={gpu.id: f"{pool.name} #{gpu.index}" for pool in seen.gpus for gpu in pool.gpus},
            xsrf=xsrf(self),
            api=BASE,
        )


def gpu_handlers(surroundings: Surroundings, facts: Facts, gpus: GpuService) -> Iterable[URLSpec]:
    """The handler of the operators' page."""
    return [URLSpec(PREFIX + "gpu$", GpuPage, {"surroundings": surroundings, "facts": facts, "gpus": gpus})]
