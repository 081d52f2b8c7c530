"""One lease at a time: make its slice, watch what runs on it, end it. Each act may be repeated with the same effect.

The state that an act belongs to was written before it begins, so that whoever finds the row after a crash goes on
from there; what an act found out is written only if the lease is still in that state.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from specola.core.database import record
from specola.core.errors import SpecolaError
from specola.gpu.api import Outcome
from specola.gpu.holding import SERVER_ENDED, Holding
from specola.gpu.idle import Verdict
from specola.gpu.meters import Meters
from specola.gpu.model import ActuatorError, Gone, Runner, Running, Waiting
from specola.gpu.records import record_of
from specola.gpu.situation import MEASURED, Situation
from specola.gpu.state import Cause
from specola.gpu.store import Held
from specola.gpu.telling import Teller

START_LIMIT = 300.0
"""seconds from running to ready"""
SERVER_REPORTS = 60.0
"""seconds after which the hub is asked about a server that starts"""
REPEATED = 30.0
"""within which the provisioner repeats a start that this service may have lost"""
RESTARTED = 20.0
"""within which a kernel that is gone may be started anew on its lease"""
ATTEMPTS = 3
BLOCKED = 60.0
"""for which nothing is placed on a GPU that refused a slice"""
TOLD_EVERY = 30.0
"""seconds between two events about a lease that goes on as it is"""
LOOKS: dict[str, float] = {"starting": 1.0, "saving": 1.0, "active": 5.0, "expiring": 5.0}
"""seconds between two looks at what runs, by the state of its lease"""
OUTCOMES: dict[Cause, Outcome] = {
    "term": "expired",
    "reclaimed": "reclaimed",
    "drained": "drained",
    "released": "released",
}
NOT_TAKEN = "It waits again, with its age kept: the slice could not be made this time."
log = logging.getLogger(__name__)


class Servers(Protocol):
    """The notebook servers of everybody."""

    async def present(self) -> Mapping[tuple[str, str], bool]:
        """(person, server) of all that run, start or stop, and whether each is ready."""

    async def stop(self, person: str, server: str) -> None:
        """Ask for its end; one that has gone is fine."""


class NotYetError(SpecolaError):
    """An act has to be tried again in a moment."""


class Following:
    """Does for each lease what its state asks for."""

    def __init__(
        self, situation: Situation, teller: Teller, holding: Holding, meters: Meters, servers: Servers
    ) -> None:
        self._at = situation
        self._store = situation.store
        self._tell = teller
        self._holding = holding
        self._turns = holding.turns
        self._meters = meters
        self._servers = servers
        self._since = situation.clock()
        self._waited: dict[str, float] = {}
        self._gone: dict[str, float] = {}
        self._ticked: dict[str, float] = {}
        self._told: dict[str, tuple[object, float]] = {}

    # making

    async def make(self, held: Held) -> None:
        """The slice of a lease, at the place that was written down; where a site chooses, there is nothing to make."""
        pool, device = self._at.pools.get(held.pool), None
        if pool is None or pool.closed:
            self._back(held, "failed", "Its pool is not there any more.")
            return
        slot = held.slot
        if pool.actuator is not None and slot is not None:
            try:
                device = (await pool.actuator.make(slot, held.shape, held.id)).uuid
            except ActuatorError as error:
                log.warning("the slice of %s on %s was not made: %s", held.id, slot.gpu, error)
                pool.block(slot.gpu, self._at.clock() + BLOCKED)
                self._back(held, "failed", NOT_TAKEN)
                return
        expires = self._at.clock() + self._at.section.hold
        if self._store.move(held.id, ("making",), state="offered", device=device, expires=expires):
            if held.device is None:
                self._meters.granted(held.pool, max(0.0, self._at.clock() - self._asked_at(held)))
            await pool.look(self._at.clock())
            self._tell.lease(held.id)

    def _asked_at(self, held: Held) -> float:
        asked = self._store.asked(held.request)
        return held.granted if asked is None else asked.created

    def _back(self, held: Held, outcome: Outcome, why: str) -> None:
        """The slice goes, the request waits again."""
        again = {"state": "queued", "lease": None, "reason": why}
        self._store.move(held.id, (held.state,), request=again, state="ending", outcome=outcome, reason=why)
        self._tell.lease(held.id)

    async def remake(self, held: Held) -> None:
        """An offered slice that has gone, as all do when a machine starts anew, is made again."""
        self._store.move(held.id, ("offered",), state="making")
        self._at.changed()

    # watching

    async def watch(self, held: Held) -> None:
        """Look at what runs on a lease."""
        if self._turns[held.id].locked():
            return
        pool = self._at.pools.get(held.pool)
        if held.for_server:
            await self._watch_start_of_server(held)
            return
        if pool is None or pool.runner is None:
            self._ended_by_itself(held, "Its pool is not there any more.")
            return
        found = await pool.runner.poll(held.id)
        fresh = self._store.held(held.id)
        if fresh is None or (fresh.state, fresh.begun) != (held.state, held.begun):
            return
        if held.state == "starting":
            await self._watch_start(held, pool.runner, found)
        elif not isinstance(found, Gone):
            self._gone.pop(held.id, None)
            if isinstance(found, Running) and found.device and held.device is None:
                self._store.move(held.id, (held.state,), device=found.device)
        elif held.state == "saving":
            self._ending(held, OUTCOMES[held.cause or "released"], held.reason)
        elif self._at.clock() - self._gone.setdefault(held.id, self._at.clock()) >= RESTARTED:
            self._ended_by_itself(held, found.reason)

    def _ended_by_itself(self, held: Held, why: str) -> None:
        self._ending(held, "failed" if why else "released", why or "Its kernel has ended.")

    def _ending(self, held: Held, outcome: Outcome, why: str) -> None:
        if self._store.move(held.id, (held.state,), state="ending", outcome=outcome, reason=why):
            self._tell.lease(held.id, with_request=False)

    async def _watch_start(self, held: Held, runner: Runner, found: Waiting | Running | Gone) -> None:
        now, started = self._at.clock(), held.starting or held.granted
        if isinstance(found, Waiting):
            self._waited[held.id] = now
            self._say(held, found.reason)
        elif isinstance(found, Running):
            self._say(held, f"It starts on {found.host}.")
            if now - max(held.begun or started, self._waited.get(held.id, started), self._since) > START_LIMIT:
                await self._failed_start(held, runner, f"It did not get ready within {START_LIMIT:.0f} seconds.")
        elif held.begun is not None:
            await self._failed_start(held, runner, found.reason or "The kernel ended while it started.")
        elif now - max(started, self._since) > REPEATED:
            await self._failed_start(held, runner, "The start was interrupted.")

    def _say(self, held: Held, reason: str) -> None:
        if reason != held.reason and self._store.move(held.id, ("starting",), reason=reason):
            self._tell.lease(held.id, with_request=False)

    async def _watch_start_of_server(self, held: Held) -> None:
        """A start that the spawner does not report about is looked up at the hub."""
        started = held.starting or held.granted
        if held.state != "starting" or self._at.clock() - max(started, self._since) <= SERVER_REPORTS:
            return
        ready = (await self._servers.present()).get((held.person, held.server or ""))
        if ready:
            self._holding.begin(held)
        elif ready is None:
            self._retry(held, "The server did not start.")

    async def _failed_start(self, held: Held, runner: Runner, why: str) -> None:
        async with self._turns[held.id]:
            now = self._store.held(held.id)
            if now is not None and (now.state, now.starting) == ("starting", held.starting):
                await runner.stop(held.id)
                self._retry(held, why)

    def _retry(self, held: Held, why: str) -> None:
        """Hold the slice for another try; after the last one it goes, with the reason."""
        self._waited.pop(held.id, None)
        failures = held.failures + 1
        if failures >= ATTEMPTS:
            failed = {"state": "failed", "reason": why, "ended": self._at.clock()}
            self._store.move(
                held.id, ("starting",), request=failed, state="ending", outcome="failed", reason=why, failures=failures
            )
        else:
            cleared: dict[str, Any] = {"kernel": None, "server": None, "grant_hash": None, "begun": None}
            expires = self._at.clock() + self._at.section.hold
            self._store.move(
                held.id, ("starting",), state="offered", expires=expires, failures=failures, reason=why, **cleared
            )
        self._tell.lease(held.id)

    async def watch_servers(self, holding: list[Held]) -> None:
        """Servers that have gone without a word give their slices back."""
        there = await self._servers.present()
        for held in holding:
            if (held.person, held.server or "") in there:
                self._gone.pop(held.id, None)
            elif self._at.clock() - self._gone.setdefault(held.id, self._at.clock()) >= RESTARTED:
                self._ending(held, "released", SERVER_ENDED)

    # measuring

    async def measure(self, held: Held) -> None:
        """What a lease does now, and how long it was busy since the last time."""
        pool, now = self._at.pools.get(held.pool), self._at.clock()
        values: dict[str, Any] = {}
        if pool is not None and pool.actuator is not None:
            instance = pool.instance(held)
            if instance is not None:
                # one clock for everything that is compared
                sample = replace(await pool.actuator.sample(instance), at=now)
                values["seen"] = self._at.measured(held, sample)
                held = replace(held, **values)
        seconds = max(0.0, now - self._ticked.get(held.id, now))
        self._ticked[held.id] = now
        verdict = self._at.verdict(held, now)
        busy = seconds if verdict.idle_since is None and verdict.signal != "none" else 0.0
        self._meters.held(held, seconds, busy)
        if self._store.move(held.id, tuple(MEASURED), used=held.used + busy, **values):
            self._at.changed()
            self._tell_use(held, verdict, now)

    def _tell_use(self, held: Held, verdict: Verdict, now: float) -> None:
        """Its person hears at once when a lease becomes idle or busy, and now and then what it does."""
        seen = (verdict.idle_since is None, verdict.signal)
        told, at = self._told.get(held.id, (None, float("-inf")))
        if told != seen or now - at >= TOLD_EVERY:
            self._told[held.id] = (seen, now)
            self._tell.lease(held.id, with_request=False)

    # ending

    async def end(self, held: Held) -> None:
        """End what runs, free the slot, write the record: only then can anybody else have the slice."""
        async with self._turns[held.id]:
            pool = self._at.pools.get(held.pool)
            if held.for_server and held.server is not None:
                await self._end_server(held.person, held.server)
            if pool is not None and pool.runner is not None and held.starting is not None and not held.for_server:
                await pool.runner.stop(held.id)
            if pool is not None and pool.actuator is not None:
                await pool.look(self._at.clock())
                if pool.trouble:
                    raise NotYetError(pool.trouble)
                instance = pool.instance(held)
                if instance is not None:
                    await pool.actuator.destroy(instance)
                    await pool.look(self._at.clock())
            self._ended(held)
        self._turns.pop(held.id, None)

    async def _end_server(self, person: str, server: str) -> None:
        if (person, server) in await self._servers.present():
            await self._servers.stop(person, server)
            raise NotYetError(f"the server {server!r} of {person} is on its way out")

    def _ended(self, held: Held) -> None:
        now, pool = self._at.clock(), self._at.pools.get(held.pool)
        outcome: Outcome = held.outcome or OUTCOMES[held.cause or "released"]
        came_to = record_of(held, self._store.asked(held.request), pool, outcome, now)
        if not self._store.end(came_to):
            return
        detail = {"outcome": outcome, "pool": held.pool, "shape": held.shape, "used": round(held.used)}
        record(self._store.engine, held.person, "gpu.lease", held.id, detail)
        self._at.usage.add(came_to, now)
        self._meters.ended(held.pool, outcome)
        for remembered in (self._waited, self._gone, self._ticked, self._told):
            remembered.pop(held.id, None)
        self._at.forget(held.id)
        self._tell.lease(held.id, with_request=False)

    # what nobody holds

    async def remove_orphans(self) -> None:
        """Slices with the mark of a lease that is not alive go; what has another mark, or none, is not ours."""
        live, failed = {held.id for held in self._store.live()}, None
        for pool in self._at.pools.values():
            for one in pool.orphans(live):
                if pool.actuator is None:
                    continue
                log.warning("the slice %s of %s has the mark of no lease: it is freed", one.uuid, pool.name)
                try:
                    await pool.actuator.destroy(one)
                    await pool.look(self._at.clock())
                except Exception as error:  # noqa: BLE001 - one that is still in use keeps no other
                    failed = error
        if failed is not None:
            raise failed

    async def stop_strays(self, runner: Runner) -> None:
        """Work of leases that nothing should run on ends."""
        failed = None
        for identity in await runner.leases():
            if not self._is_stray(identity):
                continue
            async with self._turns[identity]:
                if self._is_stray(identity):
                    log.warning("work of %s runs on %s without its lease: it is ended", identity, runner.site)
                    try:
                        await runner.stop(identity)
                    except Exception as error:  # noqa: BLE001 - one that does not end keeps no other
                        failed = error
        if failed is not None:
            raise failed

    def _is_stray(self, identity: str) -> bool:
        held = self._store.held(identity)
        return held is None or held.state in {"making", "offered", "ended"}


def due(last: dict[str, float], key: str, now: float, every: float) -> bool:
    """Whether something is to be done again; if so it counts as done now. A clock that was set back stops nothing."""
    if 0 <= now - last.get(key, float("-inf")) < every:
        return False
    last[key] = now
    return True
