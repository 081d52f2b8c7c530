"""The loop that owns all requests and leases: look, plan, write down, act.

Acts on different leases run side by side, at most one on each, so that one that takes long (a batch system that does
not answer, a slice that is still in use) keeps nobody else waiting. One that fails is tried again, ever more rarely.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Coroutine, Iterable
from typing import Any, assert_never

from specola.core.reconcile import Reconciler
from specola.gpu.following import LOOKS, OUTCOMES, Following, due
from specola.gpu.meters import Meters
from specola.gpu.model import Runner
from specola.gpu.planning import plan
from specola.gpu.situation import Situation
from specola.gpu.state import Action, Cause, End, Extend, Grant, Lapse, Notice, Spare
from specola.gpu.store import Asked, Held
from specola.gpu.telling import Teller

PERIOD = 1.0
LONGEST_PAUSE = 5.0
QUIET_LOOK = 3.0
"""seconds between two looks at the cards while nobody has or wants anything"""
LOOK_PATIENCE = 1.0
"""how long a step waits for cards; those that come later count in the next"""
SAMPLE_EVERY = 10.0
STRAYS_EVERY = 10.0
SERVERS_EVERY = 10.0
FORGET_EVERY = 3600.0
KEPT = 7 * 86400.0
LONGEST_RETRY = 30.0
MOST_RETURNS = 2
"""how often an unclaimed grant goes back to the queue before its request is given up"""
WHY: dict[Cause, str] = {
    "term": "Its time is over.",
    "reclaimed": "It was idle, and somebody waits for it.",
    "drained": "Its GPU is taken out of use.",
    "released": "It was given back.",
}
log = logging.getLogger(__name__)


class Reconcile:
    """Makes what is held what it should be, once a second and when something has changed."""

    def __init__(self, situation: Situation, teller: Teller, following: Following, meters: Meters) -> None:
        self._at = situation
        self._store = situation.store
        self._tell = teller
        self._follow = following
        self._meters = meters
        self._acts: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, tuple[int, float]] = {}
        self._last: dict[str, float] = {}
        self.loop = Reconciler("gpu", self.step, period=PERIOD, longest_pause=LONGEST_PAUSE)

    async def step(self) -> None:
        """One round."""
        await self._look()
        self._at.changed()
        self._act()
        self._plan()
        self._act()
        self._sweep()
        self._tell.positions()
        self._tell.offers()
        self._meters.present(self._at.now(), self._at.pools)

    async def settle(self) -> None:
        """Wait until every act that has begun is done."""
        while self._acts:
            await asyncio.gather(*self._acts.values(), return_exceptions=True)

    async def stop(self) -> None:
        """Give up every act where it is; the rows say where to go on."""
        acts = list(self._acts.values())
        for act in acts:
            act.cancel()
        await asyncio.gather(*acts, return_exceptions=True)

    # looking

    async def _look(self) -> None:
        now, snapshot = self._at.clock(), self._at.now()
        every = 0.0 if snapshot.live or snapshot.queued else QUIET_LOOK
        looks = [
            self._begin(f"look {pool.name}", pool.look(now))
            for pool in self._at.pools.values()
            if not (pool.closed or 0 <= now - pool.seen < every)
        ]
        begun = [look for look in looks if look is not None]
        if begun:
            await asyncio.wait(begun, timeout=LOOK_PATIENCE)

    # acting

    def _begin(self, key: str, act: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        """Begin an act, unless the same one runs or has just failed."""
        # longer than the longest pause is one from before the clock was set back
        pause = self._failed.get(key, (0, 0.0))[1] - self._at.clock()
        if key in self._acts or 0 < pause <= LONGEST_RETRY:
            act.close()
            return None
        task = asyncio.create_task(act, name=key)
        self._acts[key] = task
        task.add_done_callback(lambda done: self._done(key, done))
        return task

    def _done(self, key: str, task: asyncio.Task[None]) -> None:
        del self._acts[key]
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._failed.pop(key, None)
            # what was done asks for the next step, but a look that found nothing new does not
            if not key.startswith(("look", "watch", "measure", "sweep")):
                self.loop.wake()
            return
        failures = self._failed.get(key, (0, 0.0))[0] + 1
        pause = min(PERIOD * 2.0 ** (failures - 1), LONGEST_RETRY)
        self._failed[key] = (failures, self._at.clock() + pause)
        level = logging.INFO if failures == 1 else logging.WARNING
        log.log(level, "%s failed (%d in a row): %s: %s", key, failures, type(error).__name__, error)

    def _act(self) -> None:
        """Whatever the states of the leases ask for."""
        now = self._at.clock()
        for held in self._at.now().live:
            if held.state == "making":
                self._begin(f"make {held.id}", self._follow.make(held))
            elif held.state == "ending":
                self._begin(f"end {held.id}", self._follow.end(held))
            elif held.state == "offered":
                self._keep_offered(held)
            elif held.state == "saving" and held.deadline is not None and held.deadline <= now:
                self._move(held, ("saving",), state="ending")
            elif due(self._last, f"watch {held.id}", now, LOOKS[held.state]):
                self._begin(f"watch {held.id}", self._follow.watch(held))
            if held.state in {"active", "expiring"} and due(self._last, f"measure {held.id}", now, SAMPLE_EVERY):
                self._begin(f"measure {held.id}", self._follow.measure(held))

    def _keep_offered(self, held: Held) -> None:
        pool = self._at.pools.get(held.pool)
        if pool is None or pool.closed:
            self._return(held, "drained", "Its pool is not there any more.")
        elif pool.places and not pool.trouble and pool.seen > held.granted and pool.instance(held) is None:
            self._begin(f"remake {held.id}", self._follow.remake(held))

    def _sweep(self) -> None:
        """What is done now and then: orphans, strays, servers that have gone, old rows."""
        now, live = self._at.clock(), self._at.now().live
        alive = {held.id for held in live}
        if any(pool.orphans(alive) for pool in self._at.pools.values()):
            self._begin("sweep slices", self._follow.remove_orphans())
        for number, runner in enumerate(self._runners()):
            if due(self._last, f"strays {number}", now, STRAYS_EVERY):
                self._begin(f"sweep {number}", self._follow.stop_strays(runner))
        servers = [held for held in live if held.for_server and held.state in {"active", "expiring"}]
        if servers and due(self._last, "servers", now, SERVERS_EVERY):
            self._begin("sweep servers", self._follow.watch_servers(servers))
        if due(self._last, "forget", now, FORGET_EVERY):
            self._store.forget(now - KEPT)
            kept = {key: at for key, at in self._last.items() if now - at < FORGET_EVERY}
            self._last = kept
            self._failed = {key: failed for key, failed in self._failed.items() if failed[1] > now}

    def _runners(self) -> Iterable[Runner]:
        """Every runner once: pools may share one."""
        found = {id(pool.runner): pool.runner for pool in self._at.pools.values() if pool.runner is not None}
        return found.values()

    # planning

    def _plan(self) -> None:
        """What the rules say, written down before anything of it is done."""
        snapshot = self._at.now()
        queue = {asked.id: asked for asked in snapshot.queued}
        live = {held.id: held for held in snapshot.live}
        for action in plan(snapshot.state, snapshot.wishes, snapshot.at):
            try:
                self._apply(action, queue, live)
            except Exception:
                # the others' grants do not wait for a fault of ours with one
                log.exception("%s could not be done", action)

    def _apply(self, action: Action, queue: dict[str, Asked], live: dict[str, Held]) -> None:
        match action:
            case Grant():
                self._grant(queue[action.wish], action)
            case Notice():
                self._notice(live[action.lease], action)
            case Spare():
                kept = {"state": "active", "ends_at": None, "cause": None, "reason": ""}
                self._move(live[action.lease], ("expiring",), **kept)
            case End():
                self._end(live[action.lease], action.cause)
            case Lapse():
                self._lapse(live[action.lease])
            case Extend():
                self._extend(live[action.lease], action.expires)
            case _:  # pragma: no cover - mypy proves that there is none
                assert_never(action)

    def _move(self, held: Held, states: tuple[Any, ...], **values: Any) -> None:
        if self._store.move(held.id, states, **values):
            self._tell.lease(held.id)

    def _grant(self, asked: Asked, action: Grant) -> None:
        pool, slot = self._at.pools[action.want.pool], action.slot
        held = Held(
            id=secrets.token_hex(8),
            request=asked.id,
            person=asked.person,
            group=asked.group,
            course=asked.course,
            pool=pool.name,
            shape=action.want.shape,
            slots=pool.model.geometry.eighths(action.want.shape),
            simulated=pool.simulated,
            seconds=asked.seconds,
            on_grant=asked.on_grant,
            notebook=asked.notebook,
            for_server=asked.server,
            reclaimable=asked.reclaimable,
            granted=self._at.clock(),
            gpu=None if slot is None else slot.gpu,
            start=None if slot is None else slot.start,
            size=None if slot is None else slot.size,
        )
        if self._store.grant(held) is not None:
            self._tell.lease(held.id)

    def _notice(self, held: Held, action: Notice) -> None:
        values = {"ends_at": action.ends_at, "cause": action.cause, "reason": WHY[action.cause]}
        self._move(held, ("active", "expiring"), state="expiring", **values)

    def _end(self, held: Held, cause: Cause) -> None:
        now, why = self._at.clock(), WHY[cause]
        if held.state in {"making", "offered", "starting"}:
            self._return(held, OUTCOMES[cause], why)
        elif held.kernel is not None and not held.for_server:
            deadline = now + self._at.section.saving
            states = ("active", "expiring")
            self._move(held, states, state="saving", cause=cause, reason=why, deadline=deadline)
        else:
            self._move(held, ("active", "expiring"), state="ending", cause=cause, reason=why)

    def _return(self, held: Held, outcome: str, why: str) -> None:
        """A slice that nobody uses yet goes; its request waits again, with its age."""
        again = {"state": "queued", "lease": None, "reason": why}
        values = {"state": "ending", "outcome": outcome, "reason": why}
        self._move(held, (held.state,), request=again, **values)

    def _lapse(self, held: Held) -> None:
        """An offer that nobody took: back to the queue with its age, and its person hears of it."""
        asked = self._store.asked(held.request)
        returns = 0 if asked is None else asked.returns + 1
        minutes = round(self._at.section.hold / 60)
        waited = f"{minutes} minutes" if minutes else f"{self._at.section.hold} seconds"
        why = f"Nobody took the slice within {waited}."
        if returns > MOST_RETURNS:
            given_up = f"{why} That was the third time, so the request has ended. Ask again when you are there."
            request = {"state": "failed", "reason": given_up, "ended": self._at.clock(), "returns": returns}
        else:
            back = f"{why} You wait again, with your place kept."
            request = {"state": "queued", "lease": None, "reason": back, "returns": returns}
        self._move(held, ("offered",), request=request, state="ending", outcome="lapsed", reason=why)

    def _extend(self, held: Held, expires: float) -> None:
        until = expires if held.longest is None else min(expires, held.longest)
        kept = {"state": "active", "ends_at": None, "cause": None, "reason": ""} if held.cause == "term" else {}
        if held.cause in {None, "term"}:
            self._move(held, ("active", "expiring"), expires=until, **kept)
