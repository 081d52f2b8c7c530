"""GPU kernels of this server: who may dial in for each, and what is known of it.

A kernel is `waiting` for its lease or site, `starting` once its worker has dialled, `ready` when it has answered,
`lost` while its connection is down, and `ended` with a reason. The one-time secret that opens the connection is kept
only as a hash; it is good again if the worker's greeting did not arrive. The session's secret replaces it for
reconnections.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from specola_worker.kernel import wire
from specola_worker.kernel.calls import CallError, Calls, Handler

from specola_lab.gpu.front import Front

State = Literal["waiting", "starting", "ready", "lost", "ended"]
KEPT_SECONDS = 3600.0
"""how long the panel is told why a kernel ended"""
END_SECONDS = 2.0
GRACE_OVER = "Its machine could not be reached for a minute: the network was cut, or the job has ended."

log = logging.getLogger(__name__)


def digest(secret: str) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode(errors="replace")).digest()


class KernelLink:
    """One kernel that runs elsewhere."""

    def __init__(self, kernel_id: str, lease: str, handlers: Mapping[str, Handler], grace: float) -> None:
        self.kernel_id = kernel_id
        self.lease = lease
        self.grace = grace
        self.secret = secrets.token_urlsafe(32)
        """cleared once it has been handed to the service"""
        self._once = digest(self.secret)
        self._session_secret = secrets.token_urlsafe(32)
        self._session = digest(self._session_secret)
        self.about: dict[str, Any] = {}
        self.state: State = "waiting"
        self.reason = ""
        self.since = time.time()
        self.left = False
        """its worker saves it by itself, and nobody else speaks for it"""
        self.hooks = 0
        self.pid: int | None = None
        """of the kernel's process, where it runs"""
        self.code: int | None = None
        self.hello: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.changed: Callable[[], None] = lambda: None
        self.opening: wire.Connection | None = None
        """a connection that has shown the secret and not greeted yet: one at most"""
        own: dict[str, Handler] = {"kernel": self._kernel_told, "hooks": self._hooks_told}
        self.calls = Calls(lambda parts: self.link.send("own", parts), {**own, **handlers})
        self.front = Front(self._from_client)
        to_client = {name: self._to_client(name) for name in wire.CHANNELS if name != "own"}
        self.link = wire.Link({"own": self.calls.deliver, **to_client})
        self.link.start()
        self._connections: set[asyncio.Task[None]] = set()
        self._mourning: asyncio.Task[None] | None = None

    # who may come in

    def admits(self, presented: bytes) -> bool:
        """Whether the digest of a presented secret opens this link now; the same work for each."""
        once = hmac.compare_digest(presented, self._once)
        session = hmac.compare_digest(presented, self._session)
        if self.state == "ended":
            return False
        return session if self.hello.done() else once

    def greeting(self) -> str:
        """What this end says first; the session's secret only to whom the one-time secret let in."""
        return self.link.greeting(**({} if self.hello.done() else {"session": self._session_secret}))

    def greeted(self, connection: wire.Connection, text: str) -> None:
        """The worker's greeting: from now on the link is connected; WireError."""
        said = self.link.greeted(connection, text)
        if not self.hello.done():
            self.about = {name: said.get(name) for name in ("home", "gpu", "simulated")}
            self.hello.set_result(said)
            self._become("starting")
        elif self.state == "lost":
            self._become("ready" if self.pid is not None else "starting")
        if self._mourning is not None:
            self._mourning.cancel()
        task = asyncio.create_task(self._run(connection))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _run(self, connection: wire.Connection) -> None:
        await self.link.run(connection)
        if not self.link.connected and self.state != "ended":
            self._become("lost", "The connection to its machine is lost; it is opened again for a minute.")
            self._mourning = asyncio.create_task(self._mourn())

    async def _mourn(self) -> None:
        await asyncio.sleep(self.grace)
        self._mourning = None
        await self.end(GRACE_OVER)

    # the kernel

    def _to_client(self, name: str) -> wire.Deliver:
        async def deliver(parts: list[bytes]) -> None:
            await self.front.deliver(name, parts)

        return deliver

    async def _from_client(self, name: str, parts: list[bytes]) -> None:
        try:
            await self.link.send(name, parts)
        except (wire.WireError, ValueError) as error:
            log.warning("a message to kernel %s is dropped: %s", self.kernel_id, error)

    async def _kernel_told(self, said: dict[str, Any], _: list[bytes]) -> None:
        if said["pid"] == self.pid:
            self.pid, self.code = None, int(said["code"])
            self.changed()

    async def _hooks_told(self, said: dict[str, Any], _: list[bytes]) -> None:
        self.hooks = int(said["count"])
        self.changed()

    async def start(self, environment: dict[str, str], directory: str) -> None:
        """Have the worker start a kernel; CallError."""
        self._become("starting")
        self.hooks, self.code = 0, None
        answer = await self.calls.ask("start", environment=environment, directory=directory)
        self.pid = int(answer["pid"])

    def ready(self) -> None:
        """The kernel has answered."""
        self._become("ready")

    @property
    def alive(self) -> bool:
        """Whether a kernel runs there, as far as anybody can say."""
        return self.state != "ended" and self.pid is not None

    def say(self, reason: str) -> None:
        """Say why it is not ready yet."""
        if reason != self.reason:
            self._become(self.state, reason)

    def _become(self, state: State, reason: str = "") -> None:
        self.state, self.reason, self.since = state, reason, time.time()
        self.changed()

    async def end(self, reason: str, do: str = "end") -> None:
        """The kernel is over, and why; twice is no error, the first reason stays. `leave`: it saves itself first."""
        if self.state == "ended":
            return
        if not self.hello.done():
            self.hello.cancel()
        if self._mourning is not None:
            self._mourning.cancel()
        if self.link.connected:
            try:
                await self.calls.ask(do, seconds=END_SECONDS)
            except (CallError, TimeoutError, wire.WireError):
                log.info("the worker of kernel %s did not confirm its end", self.kernel_id)
        self.pid, self.code = None, self.code or 1
        self._become("ended", reason)
        await self.calls.close(reason)
        await self.link.close()
        await self.front.close()

    def describe(self) -> dict[str, Any]:
        """What the panel is told."""
        return {
            "kernel_id": self.kernel_id,
            "lease": self.lease,
            "state": self.state,
            "reason": self.reason,
            "since": self.since,
            "hooks": self.hooks,
            "home": self.about.get("home"),
            "gpu": self.about.get("gpu"),
            "simulated": self.about.get("simulated"),
        }


class Registry:
    """All links of this server, the ended ones for an hour."""

    def __init__(self) -> None:
        self.links: dict[str, KernelLink] = {}
        self._nobody = digest(secrets.token_urlsafe(32))

    def add(self, link: KernelLink) -> None:
        """A kernel is about to start."""
        old = [
            name for name, one in self.links.items() if one.state == "ended" and time.time() - one.since > KEPT_SECONDS
        ]
        for name in old:
            del self.links[name]
        self.links[link.kernel_id] = link

    def admit(self, kernel_id: str, authorization: str) -> KernelLink | None:
        """The link that a header opens; None for a wrong secret and an unknown kernel alike."""
        scheme, _, secret = authorization.partition(" ")
        presented = digest(secret if scheme == wire.SCHEME else "")
        link = self.links.get(kernel_id)
        if link is None:
            hmac.compare_digest(presented, self._nobody)
            return None
        return link if link.admits(presented) else None

    def of_lease(self, lease: str) -> KernelLink | None:
        """The kernel of a lease; one that is over only when there is no other."""
        found = [link for link in self.links.values() if link.lease == lease]
        return next((link for link in found if link.state != "ended"), found[-1] if found else None)

    def busy_leases(self) -> set[str]:
        """Leases that a kernel holds here."""
        return {link.lease for link in self.links.values() if link.state != "ended"}
