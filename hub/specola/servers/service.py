"""The caller's servers, and the loop that stops idle ones.

The only writer of the tables `activity` and `home_use`. A stop is written there before it is done, so that a
service that was killed in between finishes it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from specola.client.hub import Hub, HubServer
from specola.core.database import activity, home_use, record
from specola.core.errors import PublicError
from specola.core.events import Bus, Event
from specola.core.reconcile import Reconciler
from specola.http.metrics import Metrics
from specola.servers.culling import Facts, Keep, Limits, Stop, Warn, busy_with, decide, ends_at
from specola.servers.model import Activity, HomeUse, Server, Servers, State

STALE = 180.0
PATIENCE = 0.7
WORDS = {"idle": "nothing has happened in it for a long time", "age": "it has reached its longest life"}
log = logging.getLogger(__name__)


class ServersService:
    """Starts, stops and watches notebook servers; each method acts for one person only."""

    def __init__(
        self,
        hub: Hub,
        engine: sa.Engine,
        bus: Bus,
        metrics: Metrics,
        limits: Limits,
        *,
        clock: Callable[[], float] = time.time,
        period: float = 30,
    ) -> None:
        self._hub = hub
        self._engine = engine
        self._bus = bus
        self._metrics = metrics
        self._limits = limits
        self._clock = clock
        self._since = clock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.loop = Reconciler("culling", self.sweep, period=period)

    async def report(self, person: str, report: Activity) -> None:
        """Keep what a server says about itself."""
        now = self._clock()
        busy = busy_with(report.kernels_busy, report.kernels_connected, report.clusters)
        values: dict[str, Any] = {"reported": now, "busy_with": busy}
        if busy is not None:
            values["last_active"] = now
        self._write(person, report.server, values, {"started": 0.0, "last_active": now})
        if report.home_used is not None:
            self._measured(person, report.home_used, now)

    async def mine(self, person: str) -> Servers:
        """The person's servers as they are now."""
        user = await self._hub.user(person)
        items = tuple(self._describe(person, server) for _, server in sorted(user.servers.items()))
        return Servers(items=items, home=self.home(person))

    def home(self, person: str) -> HomeUse | None:
        """How full the person's home was at the last look: only a server of theirs can see into it."""
        with self._engine.connect() as connection:
            row = connection.execute(home_use.select().where(home_use.c.person == person)).mappings().one_or_none()
        return None if row is None else HomeUse(used=row["used"], measured=_time(row["measured"]))

    async def start(self, person: str, server: str, gpu: str | None = None) -> Servers:
        """Ask the hub for a server, with the slice that a one-time grant stands for; the answer shows it starting."""
        record(self._engine, person, "servers.start", f"{person}/{server}")
        try:
            await self._begin(self._hub.start(person, server, {} if gpu is None else {"gpu": gpu}))
        except PublicError as error:
            self._metrics.started("refused")
            if error.reason == "spawn":
                error.detail = await self._failure(person, server) or error.detail
            raise
        self._metrics.started("started")
        self._bus.publish(person, "servers.changed", {"server": server})
        return await self.mine(person)

    async def stop(self, person: str, server: str) -> Servers:
        """Stop a server because its owner asks."""
        record(self._engine, person, "servers.stop", f"{person}/{server}")
        await self._begin(self._hub.stop(person, server))
        self._metrics.stopped("asked")
        self._forget(person, server)
        self._bus.publish(person, "servers.changed", {"server": server})
        return await self.mine(person)

    async def _begin(self, asked: Coroutine[Any, Any, Any]) -> None:
        """Wait a moment for the hub's answer: it comes late for what takes long, and progress tells the rest."""
        task = asyncio.create_task(asked)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        done, _ = await asyncio.wait((task,), timeout=PATIENCE)
        if done:
            task.result()
        else:
            task.add_done_callback(_note_failure)

    async def progress(self, person: str, server: str) -> AsyncIterator[Event]:
        """What happens while a server starts; the last event says ready or failed."""
        number = 0
        async for step in self._hub.progress(person, server):
            number += 1
            known: dict[str, Any] = {
                key: step[key] for key in ("progress", "message", "ready", "failed", "url") if key in step
            }
            if "message" in known:
                known["message"] = str(known["message"]).removeprefix("Spawn failed: ")
            if step.get("failed"):
                self._metrics.started("failed")
            yield Event(number, "servers.progress", known, person)
        self._bus.publish(person, "servers.changed", {"server": server})

    async def _failure(self, person: str, server: str) -> str:
        """Why the last start failed, in the spawner's words; the hub keeps them until the next start."""
        try:
            async for step in self._hub.progress(person, server):
                if step.get("failed"):
                    return str(step.get("message", "")).removeprefix("Spawn failed: ")[:500]
        except PublicError:
            log.debug("the hub does not say why the start of %s failed", person)
        return ""

    async def sweep(self) -> None:
        """Look at everybody's servers once: warn, stop, finish stops that were begun, forget what is gone."""
        users = await self._hub.active_users()
        present = {(u.name, name): s for u in users for name, s in u.servers.items()}
        self._metrics.servers.set(sum(server.ready for server in present.values()))
        for key in self._rows().keys() - present.keys():
            self._forget(*key)
        for (person, name), server in present.items():
            if server.ready and server.pending is None:
                await self._look_at(person, name, server)

    async def _look_at(self, person: str, name: str, server: HubServer) -> None:
        row = self._rows().get((person, name))
        facts = self._facts(server, row)
        # what was decided about an earlier server of this name does not count for this one
        ours = row if row is not None and row["started"] == facts.started else None
        if ours is not None and ours["stopping"]:
            await self._end(person, name, ours["stopping"])
            return
        decision = decide(self._clock(), facts, self._limits)
        warned = ours is not None and ours["warned_for"] is not None
        if isinstance(decision, Stop):
            self._decide(person, name, facts, stopping=decision.why)
            await self._end(person, name, decision.why)
        elif isinstance(decision, Warn) and not warned:
            self._decide(person, name, facts, warned_for=decision.at)
            self._tell(person, name, decision.at, decision.why)
        elif isinstance(decision, Keep) and warned:
            self._decide(person, name, facts)
            self._tell(person, name, None, None)

    def _decide(
        self, person: str, name: str, facts: Facts, *, warned_for: float | None = None, stopping: str | None = None
    ) -> None:
        values = {"started": facts.started, "warned_for": warned_for, "stopping": stopping}
        self._write(person, name, values, {"reported": 0.0, "last_active": facts.last_active})

    async def _end(self, person: str, name: str, why: str) -> None:
        record(self._engine, "specola", "servers.cull", f"{person}/{name}", {"why": why})
        if await self._hub.stop(person, name):
            self._metrics.stopped(why)
            log.info("stopped the server %r of %s: %s", name, person, why)
            self._bus.publish(person, "servers.culled", {"server": name, "why": WORDS[why]})
        self._forget(person, name)

    def _tell(self, person: str, name: str, at: float | None, why: str | None) -> None:
        when = None if at is None else _time(at).isoformat()
        self._bus.publish(person, "servers.culling", {"server": name, "at": when, "why": WORDS.get(why or "")})

    def _facts(self, server: HubServer, row: dict[str, Any] | None) -> Facts:
        """What is known of a server: its own report, or the hub's when it never or no longer reports.

        After a pause of ours, a server that used to report counts as active until it had the chance to.
        """
        started = server.started.timestamp() if server.started else self._since
        seen = server.last_activity.timestamp() if server.last_activity else started
        if row is None or row["reported"] < started:
            return Facts(started, max(seen, started))
        if self._clock() - row["reported"] > STALE:
            return Facts(started, max(row["last_active"], seen, self._since if row["reported"] < self._since else 0))
        return Facts(started, row["last_active"], row["busy_with"])

    def _describe(self, person: str, server: HubServer) -> Server:
        row = self._rows().get((person, server.name))
        facts = self._facts(server, row)
        end = ends_at(self._clock(), facts, self._limits) if server.ready else None
        return Server(
            name=server.name,
            state=_state(server),
            url=server.url,
            started=server.started,
            busy_with=facts.busy_with,
            stops_at=None if end is None or (facts.busy_with and end[1] == "idle") else _time(end[0]),
            why=None if end is None else WORDS[end[1]],
            warned=row is not None and row["started"] == facts.started and row["warned_for"] is not None,
        )

    def _rows(self) -> dict[tuple[str, str], dict[str, Any]]:
        with self._engine.connect() as connection:
            rows = connection.execute(activity.select()).mappings()
            return {(row["person"], row["server"]): dict(row) for row in rows}

    def _write(self, person: str, server: str, values: dict[str, Any], first: dict[str, Any]) -> None:
        """Change the row of a server; `first` holds what a new row needs besides."""
        now = self._clock()
        fresh = {"started": 0.0, "reported": now, "last_active": now, **first, **values}
        statement = insert(activity).values(person=person, server=server, **fresh)
        with self._engine.begin() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=["person", "server"], set_=values))

    def _measured(self, person: str, used: int, now: float) -> None:
        values = {"used": used, "measured": now}
        statement = insert(home_use).values(person=person, **values)
        with self._engine.begin() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=["person"], set_=values))

    def _forget(self, person: str, server: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(activity.delete().where(activity.c.person == person, activity.c.server == server))


def _state(server: HubServer) -> State:
    if server.pending == "stop":
        return "stopping"
    return "running" if server.ready else "starting"


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _note_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.warning("the hub refused later: %s", task.exception())
