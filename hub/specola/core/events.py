"""The event bus behind `GET /events`.

Ids increase for ever: they start at the present time in microseconds, so that those of a restarted
service are greater than all before. What a subscriber missed is given again from a bounded buffer;
when the buffer does not reach back far enough, or a subscriber does not keep up, it gets `resync`
and has to read the present state anew.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Self

RESYNC = "resync"


@dataclass(frozen=True)
class Event:
    """Something that happened: to one person, or to everybody (`person` is None)."""

    id: int
    type: str
    data: dict[str, Any]
    person: str | None = None


@dataclass(eq=False)
class Subscription:
    """An iterator over a person's events; ends after `resync` when its reader was too slow."""

    person: str
    queue: deque[Event]
    _close: Callable[[Subscription], None]
    limit: int
    dropped: bool = False
    _ready: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, event: Event) -> None:
        """Add an event, or give the reader up when it is too far behind."""
        if self.dropped:
            return
        if len(self.queue) >= self.limit:
            self.queue.clear()
            self.dropped = True
            event = Event(event.id, RESYNC, {}, self.person)
        self.queue.append(event)
        self._ready.set()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while not self.queue:
            if self.dropped:
                self.close()
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()
        return self.queue.popleft()

    def close(self) -> None:
        """Receive no more."""
        self._close(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Bus:
    """Events of the last minutes, and who listens to them."""

    def __init__(self, *, kept: int = 1024, behind: int = 256) -> None:
        self._last = self._floor = time.time_ns() // 1000
        self._ring: deque[Event] = deque(maxlen=kept)
        self._behind = behind
        self._subscriptions: set[Subscription] = set()

    @property
    def last_id(self) -> int:
        """The id of the newest event; a reader that starts here misses nothing that comes."""
        return self._last

    def publish(self, person: str | None, type: str, data: dict[str, Any]) -> Event:  # noqa: A002 - the wire's word
        """Tell one person, or everybody when `person` is None."""
        self._last = max(self._last + 1, time.time_ns() // 1000)
        event = Event(self._last, type, data, person)
        if len(self._ring) == self._ring.maxlen:
            self._floor = self._ring[0].id
        self._ring.append(event)
        for subscription in list(self._subscriptions):
            if person is None or person == subscription.person:
                subscription.offer(event)
        return event

    def subscribe(self, person: str, last_id: int | None = None) -> Subscription:
        """Listen from now on, or from just after `last_id`; use as a context manager or close it."""
        backlog: deque[Event] = deque()
        if last_id is not None and not self._floor <= last_id <= self._last:
            backlog.append(Event(self._last, RESYNC, {}, person))
        elif last_id is not None:
            backlog.extend(e for e in self._ring if e.id > last_id and e.person in (None, person))
        subscription = Subscription(person, backlog, self._subscriptions.discard, self._behind + len(backlog))
        self._subscriptions.add(subscription)
        return subscription
