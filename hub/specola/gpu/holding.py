"""Leases: what those who hold one may do with it. Every change names the newest fencing token.

A one-time grant for a server is kept as a hash with its lease, not in memory: the spawn that it is for goes on while
this service is restarted. The secret of a kernel is kept nowhere here: it goes to the runner, and the provisioner
repeats its request if this service dies in between.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from specola.core.database import record
from specola.core.errors import Conflict, NotFound, PublicError, TooMuch, Unavailable
from specola.core.log import REDACTED
from specola.gpu.api import NewGrant, Redeem, Redeemed, Renew, Report, Saved, StartKernel
from specola.gpu.model import Gone, Runner, Work
from specola.gpu.pools import GpuPool
from specola.gpu.situation import Situation
from specola.gpu.store import LIVE, Held
from specola.gpu.telling import Teller
from specola.gpu.views import gib_of, words

GRANT_LIFE = 60.0
RELAY_GRACE = 60
MOST_NAMED, LONGEST_NAME = 200, 128
"""of what was saved: it goes into every event about the lease, of which a thousand are kept; the manifest has it all"""
MOST_MINUTES = 10_000_000
SERVER_ENDED = "Its server has ended."
NOT_STARTED = "The kernel could not be started there."
log = logging.getLogger(__name__)


class Holding:
    """Changes leases for those who hold them; what takes long is left to the reconcile loop."""

    def __init__(self, situation: Situation, teller: Teller, wake: Callable[[], None]) -> None:
        self._at = situation
        self._store = situation.store
        self._tell = teller
        self._wake = wake
        self.turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """held by whoever starts or ends what runs on a lease"""

    # whose it is

    def mine(self, person: str | None, identity: str, token: int | None = None) -> Held:
        """A lease of the person (None: anybody's); NotFound for others', Conflict for a token of before."""
        held = self._store.held(identity)
        if held is None or person not in {None, held.person}:
            raise NotFound("There is no such lease")
        if token is not None and token != held.token:
            raise Conflict(
                "This lease has changed hands", "Read it again: its fencing token is another.", reason="stale_token"
            )
        return held

    # a kernel

    async def start_kernel(self, person: str, identity: str, wish: StartKernel) -> Held:
        """Start the kernel worker of a lease; asked again with the same kernel, it is left as it is."""
        self.mine(person, identity, wish.token)
        async with self.turns[identity]:
            held = self.mine(person, identity, wish.token)
            runner = self._runner(held)
            if held.for_server:
                raise Conflict("This slice is for a whole server", "Ask for another one for a kernel.")
            if held.state not in {"offered", "starting", "active"}:
                raise Conflict("This lease is at its end", "Ask for a GPU again.", reason="lease_ended")
            if await self._runs(held, runner, wish.kernel_id):
                return held
            return await self._start(held, runner, wish)

    def _runner(self, held: Held) -> Runner:
        pool = self._at.pools.get(held.pool)
        if pool is None or pool.runner is None:
            raise Conflict("Nothing can be started on this pool any more", "" if pool is None else pool.closed)
        return pool.runner

    async def _runs(self, held: Held, runner: Runner, kernel: str) -> bool:
        """Whether the worker of this very kernel runs or waits; one of another kernel that never came up is ended."""
        if held.kernel is None or held.state == "offered":
            return False
        if not isinstance(await self._polled(runner, held.id), Gone):
            if held.kernel == kernel:
                return True
            if held.state == "active":
                raise Conflict("Another kernel runs on this lease", "Shut it down first, or ask for another slice.")
            await runner.stop(held.id)
        return False

    async def _polled(self, runner: Runner, identity: str) -> object:
        try:
            return await runner.poll(identity)
        except PublicError:
            raise
        except Exception as error:  # noqa: BLE001 - a batch system's library may raise anything
            log.warning("%s does not say how %s is: %s", runner.site, identity, error)
            raise Unavailable(f"{runner.site} does not answer at present", "Try again in a moment.") from None

    async def _start(self, held: Held, runner: Runner, wish: StartKernel) -> Held:
        pool = self._at.pools[held.pool]
        now = self._at.clock()
        changes: dict[str, Any] = {"kernel": wish.kernel_id, "starting": now, "begun": None, "expires": None}
        if held.state == "active":
            # a kernel that is started anew on a lease whose clock runs
            changes = {"kernel": wish.kernel_id, "begun": now}
        else:
            changes |= {"state": "starting", "reason": f"It starts on {runner.site}."}
        if not self._store.move(held.id, (held.state,), **changes):
            raise Conflict("This lease has just changed", "Read it again.")
        self._tell.lease(held.id)
        try:
            await runner.start(await self._work(held, pool, wish))
        except Exception as error:
            # not registered as a secret for good: there is one for each kernel
            why = str(error).replace(wish.secret, REDACTED)
            log.warning("the kernel of %s was not started: %s: %s", held.id, type(error).__name__, why)
            back: dict[str, Any] = {
                "state": "offered",
                "expires": now + self._at.section.hold,
                "kernel": None,
                "reason": NOT_STARTED,
            }
            self._store.move(held.id, ("starting",), **back)
            self._tell.lease(held.id)
            if isinstance(error, PublicError):
                raise
            raise Unavailable(f"{runner.site} did not take the kernel", "Try again in a moment.") from None
        self._store.move(held.id, ("starting",), begun=self._at.clock())
        self._wake()
        return self.mine(None, held.id)

    async def _work(self, held: Held, pool: GpuPool, wish: StartKernel) -> Work:
        gpu = {"model": pool.model.name, "shape": held.shape, "gib": gib_of(pool.model, held.shape)}
        settings = {
            "relay_url": wish.relay_url,
            "secret": wish.secret,
            "lease": held.id,
            "kernel_id": wish.kernel_id,
            "kernel_name": wish.kernel_name,
            "grace": RELAY_GRACE,
            "directory": wish.directory,
            "home": pool.home,
            "simulated": held.simulated,
            "gpu": gpu,
        }
        seconds = self._at.longest(held.group) + self._at.section.saving
        environment = await self.environment(held, pool)
        return Work(held.id, held.person, held.pool, held.shape, seconds, settings, environment)

    # a server

    def grant(self, person: str, identity: str, wish: NewGrant) -> str:
        """A secret that stands for this lease, good once and for a minute; a new one makes the one before worthless."""
        held = self.mine(person, identity, wish.token)
        if not held.for_server:
            raise Conflict("This slice is for a kernel", "Ask for one for a whole server.")
        if held.state != "offered":
            raise Conflict("This slice is not waiting for a server", held.reason)
        value = secrets.token_urlsafe(32)
        until = self._at.clock() + GRANT_LIFE
        self._store.move(identity, ("offered",), grant_hash=_digest(value), grant_server=wish.server, grant_until=until)
        self._at.changed()
        return value

    async def redeem(self, wish: Redeem) -> Redeemed:
        """What a one-time grant stands for; asked again while that very server starts, the same."""
        held = self._store.granted_by(_digest(wish.grant))
        now = self._at.clock()
        if held is None or held.grant_until is None or held.grant_until < now or held.person != wish.person:
            raise NotFound("This grant is not good, or no more", "Ask for a new one, and start the server with it.")
        if held.grant_server != wish.server:
            raise NotFound("This grant is for another server", "Ask for a new one, and start the server with it.")
        if held.state == "offered":
            values: dict[str, Any] = {
                "state": "starting",
                "server": wish.server,
                "starting": now,
                "begun": now,
                "expires": None,
            }
            self._store.move(held.id, ("offered",), new_token=True, reason="It starts with the server.", **values)
            record(self._store.engine, held.person, "gpu.redeem", held.id, {"server": wish.server})
            self._tell.lease(held.id)
            held = self.mine(None, held.id)
        elif held.state != "starting":
            raise NotFound("This grant has been used", "Ask for a new one, and start the server with it.")
        environment = await self.environment(held, self._at.pools[held.pool])
        model = self._at.pools[held.pool].model
        text = words(model, held.shape) + (", simulated" if held.simulated else "")
        return Redeemed(lease=held.id, token=held.token, environment=environment, text=text)

    async def environment(self, held: Held, pool: GpuPool) -> dict[str, str]:
        """Variables of a program that may use the slice of a lease and no other GPU."""
        own = {"SPECOLA_GPU_LEASE": held.id}
        if pool.actuator is None:
            return own
        if pool.instance(held) is None:
            await pool.look(self._at.clock())
        instance = pool.instance(held)
        if instance is None:
            raise Unavailable("The slice does not answer at present", "Try again in a moment.")
        return {**pool.actuator.environment(instance), **own}

    # its life

    def confirm(self, person: str | None, identity: str, token: int) -> Held:
        """The kernel or server is ready: the clock of the lease begins."""
        held = self.mine(person, identity, token)
        if held.state in {"active", "expiring"}:
            return held
        if held.state != "starting":
            raise Conflict("Nothing starts on this lease", held.reason)
        self.begin(held)
        return self.mine(None, identity)

    def begin(self, held: Held) -> None:
        """What started on a lease is ready."""
        now = self._at.clock()
        longest = now + self._at.longest(held.group)
        times: dict[str, Any] = {"active": now, "longest": longest, "expires": min(now + held.seconds, longest)}
        served = {"state": "served", "reason": "", "ended": now}
        self._store.move(held.id, ("starting",), request=served, state="active", reason="", failures=0, **times)
        self._tell.lease(held.id)
        self._wake()

    def renew(self, person: str, identity: str, wish: Renew) -> Held:
        """More time, up to the longest lease of the group; that is also its person's word that they need it."""
        held = self.mine(person, identity, wish.token)
        if wish.minutes < 1:
            raise TooMuch("A lease is renewed by at least a minute", "Say how many minutes more you need.")
        if held.state not in {"active", "expiring"} or held.expires is None or held.longest is None:
            raise Conflict("Only a lease that is in use can be renewed", "Ask for a GPU again.")
        if held.cause in {"drained", "released"}:
            raise Conflict("This lease ends in any case", held.reason or "Its GPU is being taken out of use.")
        now = self._at.clock()
        expires = min(max(held.expires, now) + min(wish.minutes, MOST_MINUTES) * 60, held.longest)
        if expires <= held.expires and held.cause == "term":
            raise TooMuch(
                f"Members of {held.group} hold a GPU for at most {self._at.longest(held.group) // 60} minutes",
                "Ask for a GPU again: your place in the queue does not depend on this lease.",
            )
        kept: dict[str, Any] = {"state": "active", "ends_at": None, "cause": None, "reason": ""}
        self._store.move(identity, (held.state,), expires=expires, person_at=now, **kept)
        record(self._store.engine, person, "gpu.renew", identity, {"minutes": wish.minutes})
        self._tell.lease(identity, with_request=False)
        self._wake()
        return self.mine(None, identity)

    def report(self, person: str, identity: str, wish: Report) -> Held:
        """What the kernel says of itself; a time that lies ahead is now."""
        held = self.mine(person, identity, wish.token)
        now = self._at.clock()
        values: dict[str, Any] = {
            "kernel_busy": wish.kernel == "busy",
            "kernel_since": min(max(wish.since, held.granted), now),
            "checkpoint": wish.checkpoint,
            "reported": now,
        }
        before = (held.kernel_busy, held.checkpoint)
        if self._store.move(identity, ("starting", "active", "expiring", "saving"), **values):
            self._at.changed()
            if before != (values["kernel_busy"], values["checkpoint"]):
                self._tell.lease(identity, with_request=False)
                self._wake()
        return self.mine(None, identity)

    def saved(self, person: str, identity: str, wish: Saved) -> Held:
        """The kernel is saved; a lease that waited for that ends now. Who says it at another time is heard once."""
        held = self.mine(person, identity, wish.token)
        at = datetime.fromtimestamp(self._at.clock(), UTC).isoformat()
        content = {
            "at": at,
            "names": [name[:LONGEST_NAME] for name in wish.names[:MOST_NAMED]],
            "failed": [one.model_dump() for one in wish.failed[:MOST_NAMED]],
            "hooks": wish.hooks,
            "size": wish.size,
        }
        if not self._store.move(identity, ("saving",), state="ending", saved=content):
            if held.saved is not None:
                return held
            self._store.move(identity, (held.state,), saved=content)
        self._tell.lease(identity, with_request=False)
        self._wake()
        return self.mine(None, identity)

    def release(
        self, person: str | None, identity: str, token: int | None, *, by: str, server_gone: bool = False
    ) -> Held:
        """Give a slice back: at once when nothing runs on it, after saving where a kernel does.

        `server_gone` says that no server is to be stopped for it: one of the same name may start at any moment.
        """
        held = self.mine(person, identity, token)
        now = self._at.clock()
        words = "You gave it back." if by == held.person else f"It was given back by {by}."
        unused = {"state": "cancelled", "reason": words, "ended": now}
        ending: dict[str, Any] = {"cause": "released", "reason": words}
        if server_gone:
            ending |= {"server": None, "reason": SERVER_ENDED}
        if held.state in {"making", "offered", "starting"}:
            outcome = "failed" if held.for_server and held.state == "starting" else "cancelled"
            changed = self._store.move(
                identity, (held.state,), request=unused, state="ending", outcome=outcome, **ending
            )
        elif held.state in {"active", "expiring"} and held.kernel is not None:
            changed = self._store.move(
                identity, (held.state,), state="saving", deadline=now + self._at.section.saving, **ending
            )
        else:
            changed = self._store.move(identity, ("active", "expiring"), state="ending", outcome="released", **ending)
        if changed:
            record(self._store.engine, by, "gpu.release", identity, {"person": held.person})
            self._tell.lease(identity)
            self._wake()
        return self.mine(None, identity)

    def end_all(self, person: str) -> list[str]:
        """Requests and leases of somebody whose right is gone end now; the ids of both."""
        now, why = self._at.clock(), "The right to use this facility has ended."
        gone: dict[str, Any] = {"state": "cancelled", "reason": why, "ended": now}
        ended: list[str] = []
        for asked in self._store.asked_of(person, now):
            if self._store.change(asked.id, ("queued",), **gone):
                self._tell.request(asked.id)
                ended.append(asked.id)
        before = tuple(state for state in LIVE if state != "ending")
        for held in self._store.held_of(person, now):
            values: dict[str, Any] = {"outcome": "cancelled", "cause": "released", "reason": why}
            if self._store.move(held.id, before, request=gone, state="ending", **values):
                record(self._store.engine, "specola", "gpu.revoke", held.id, {"person": person})
                self._tell.lease(held.id)
                ended.append(held.id)
        return ended


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()
