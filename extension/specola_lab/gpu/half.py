"""What this server does for GPU kernels, in one object: provisioner, handlers and watcher share it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from pathlib import Path
from typing import Any

from specola_worker.kernel.calls import CallError
from specola_worker.kernel.wire import GRACE_SECONDS, WireError

from specola_lab.gpu import address
from specola_lab.gpu.lessor import Lease, LeaseError, Leases
from specola_lab.gpu.links import KernelLink, Registry
from specola_lab.gpu.questions import Questions
from specola_lab.gpu.travel import SNAPSHOT_LIMIT, Travel

SNAPSHOTS = ".local/share/specola/snapshots"
"""in the home; not below `.specola`, which facilities make a link out of it"""
CONFIRM_PAUSES = (0.2, 1.0, 3.0, 10.0, 30.0)
SAVE_SECONDS = 40.0
"""of the service's 60: the rest is for what travels, and for telling it"""
TRAVEL_SLACK = 15.0
LEAVE_SECONDS = 5.0
"""a server that is stopped is killed after ten"""
MOST_TOLD, LONGEST_NAME, LONGEST_WHY = 500, 256, 512
"""of what was saved and what was not: the service takes no more, and the manifest has it all"""
NEVER_AGAIN = {400, 403, 404, 409, 410, 422}


class GpuHalf:
    """GPU kernels of one person's server."""

    def __init__(self, leases: Leases, home: Path, root: str, base_url: str, log: logging.Logger) -> None:
        self.leases = leases
        self.home = home
        self.root = root
        """what jupyter-server calls the root of its files"""
        self.base_url = base_url
        self.log = log
        self.registry = Registry()
        self.grace = GRACE_SECONDS
        self.managers: dict[str, Any] = {}
        """kernel id → jupyter-server's kernel manager"""
        self.doing: dict[str, tuple[str, float]] = {}
        """kernel id → `busy` or `idle`, and since when"""
        self.changed = asyncio.Event()
        self.travels: dict[str, Travel] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def snapshots(self) -> Path:
        """Where snapshots lie in the home."""
        return self.home / SNAPSHOTS

    def begin(self, work: Any) -> None:
        """Do something beside what happens."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # start

    def open(self, kernel_id: str, lease: str, manager: Any) -> KernelLink:
        """Expect the worker of a kernel."""
        travel = self.travels[kernel_id] = Travel(self.snapshots, lease)
        handlers = {**travel.handlers, "api": Questions(self.leases.facility).ask}
        link = KernelLink(kernel_id, lease, handlers, self.grace)
        travel.calls = link.calls
        link.changed = lambda: self._link_changed(link)
        self.registry.add(link)
        self.managers[kernel_id] = manager
        self.doing[kernel_id] = ("idle", time.time())
        manager.observe(lambda change: self._does(kernel_id, str(change["new"])), "execution_state")
        return link

    def _does(self, kernel_id: str, state: str) -> None:
        word = "busy" if state == "busy" else "idle"
        if word != self.doing[kernel_id][0]:
            self.doing[kernel_id] = (word, time.time())
            self.changed.set()

    def _link_changed(self, link: KernelLink) -> None:
        self.changed.set()
        if link.state == "ended":
            self.travels.pop(link.kernel_id, None)
            self._mark_dead(link)

    async def ask_for_worker(self, link: KernelLink) -> Lease | None:
        """Ask, or look how far it is; None when the service does not answer just now. LeaseError when it refuses."""
        known = self.leases.known[link.lease]
        try:
            if known["state"] == "offered" or known.get("kernel") != link.kernel_id:
                return await self.leases.start_kernel(
                    link.lease,
                    kernel_id=link.kernel_id,
                    relay_url=f"{address.relay(self.leases.facility.settings.api_url, self.base_url)}{link.kernel_id}",
                    secret=link.secret,
                    kernel_name="python3",
                )
            return await self.leases.get(link.lease)
        except LeaseError as error:
            if error.status in NEVER_AGAIN:
                raise
            self.log.info("lease %s: %s", link.lease, error)
            return None

    async def bring(self, link: KernelLink, directory: str) -> None:
        """Let the folder that the kernel starts in travel to one that does not see it; CallError."""
        if link.about.get("home") == "sync":
            # files leave this server on the facility's word, not on that of a machine that dialled in
            if await self.leases.home_of(str(self.leases.known[link.lease]["pool"])) != "sync":
                raise CallError("Its machine asks for your working folder, and the facility has not said that it may.")
            link.say("Your working folder travels to it.")
            travel = self.travels.get(link.kernel_id)
            if travel is None:
                raise CallError(link.reason)
            await travel.bring(Path(directory or self.root))

    def confirm(self, link: KernelLink) -> None:
        """Tell the service that the kernel is ready, until it has heard it."""
        link.secret = ""
        self.begin(self._confirm(link))

    async def _confirm(self, link: KernelLink) -> None:
        for pause in CONFIRM_PAUSES:
            try:
                await self.leases.confirm(link.lease)
            except LeaseError as error:
                self.log.warning("lease %s was not confirmed: %s", link.lease, error)
                if error.status in NEVER_AGAIN:
                    return
                await asyncio.sleep(pause)
            else:
                self.changed.set()
                return

    # end

    async def give_up(self, link: KernelLink, words: str) -> None:
        """The kernel is over and nobody wants it back: its lease is free for others."""
        over = link.state == "ended"
        await link.end(words)
        self._mark_dead(link)
        if not over:
            with contextlib.suppress(LeaseError, KeyError):
                await self.leases.release(link.lease)

    def _mark_dead(self, link: KernelLink) -> None:
        """Show it as dead now: jupyter-server would try to restart it five times first."""
        manager = self.managers.pop(link.kernel_id, None)
        if manager is None or manager.shutting_down:
            return
        manager.reason = link.reason
        manager.execution_state = "dead"
        manager.stop_restarter()
        if link.kernel_id in manager.parent:
            manager.parent.stop_watching_activity(link.kernel_id)
        restarter = getattr(manager, "_restarter", None)
        if restarter is not None:
            restarter._fire_callbacks("dead")  # noqa: SLF001 - upstream has no other way to say so
        self.begin(manager.cleanup_resources())

    async def save(self, link: KernelLink, within: float = SAVE_SECONDS) -> dict[str, Any]:
        """Have the kernel's hooks run and its variables saved; what the service is told of it."""
        limit = {} if link.about.get("home") == "shared" else {"limit": SNAPSHOT_LIMIT}
        try:
            answer = await link.calls.ask("save", seconds=within + TRAVEL_SLACK, within=within, **limit)
        except (CallError, TimeoutError, WireError) as error:
            why = str(error) or "The kernel did not answer in time."
            return {"names": [], "failed": [_left(name="*", why=why)], "hooks": 0, "size": 0}
        return {
            "names": [str(name)[:LONGEST_NAME] for name in answer["names"][:MOST_TOLD]],
            "failed": [_left(**one) for one in answer["failed"][:MOST_TOLD]],
            "hooks": len(answer["hooks"]),
            "size": answer["size"],
        }

    async def leave(self) -> None:
        """The server stops: have what runs saved, by the worker itself where the home is shared, and give it back."""
        await asyncio.gather(*(self._leave(link) for link in self.registry.links.values() if link.state == "ready"))

    async def _leave(self, link: KernelLink) -> None:
        if link.about.get("home") != "shared":
            await self.save(link, LEAVE_SECONDS)
        self.managers.pop(link.kernel_id, None)
        link.left = link.about.get("home") == "shared"
        await link.end("The server was stopped.", "leave")
        with contextlib.suppress(LeaseError):
            await self.leases.release(link.lease)

    async def close(self) -> None:
        """End what still runs, when the server shuts down."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for link in self.registry.links.values():
            await link.end("The server was stopped.")


def _left(name: str, why: str) -> dict[str, str]:
    return {"name": str(name)[:LONGEST_NAME], "why": str(why)[:LONGEST_WHY]}
