"""What people hear of: changes of their requests and leases, and that what is free has changed."""

from __future__ import annotations

from typing import Any, Protocol

from specola.gpu.api import Lease, Range, Request
from specola.gpu.situation import NOBODY, Situation
from specola.gpu.store import Asked, Held
from specola.gpu.views import lease_view, request_view

REQUEST, LEASE, OFFERS = "gpu.request", "gpu.lease", "gpu.offers"
OFFERS_EVERY = 1.0
COARSE = 1.25
"""a range that changes by less than this factor is not worth an event"""
MINUTE = 60


class Events(Protocol):
    """Where people hear of changes."""

    def publish(self, person: str | None, type: str, data: dict[str, Any]) -> object:  # noqa: A002 - the wire's word
        """Tell one person, or everybody."""


class Teller:
    """Tells each person what is new of theirs, once."""

    def __init__(self, situation: Situation, events: Events) -> None:
        self._situation = situation
        self._events = events
        self._told: dict[str, Request] = {}
        self._map: object = None
        self._map_at = float("-inf")

    def lease_of(self, held: Held) -> Lease:
        """The present view of a lease."""
        at = self._situation
        verdict = at.verdict(held, at.clock()) if held.active is not None else NOBODY
        return lease_view(held, at.pools.get(held.pool), verdict, at.samples.get(held.id, ()))

    def request_of(self, asked: Asked) -> Request:
        """The present view of a request."""
        return request_view(asked, self._situation.pools, self._situation.now())

    def lease(self, identity: str, *, with_request: bool = True) -> None:
        """A lease has changed, and mostly its request with it."""
        self._situation.changed()
        held = self._situation.store.held(identity)
        if held is None:
            return
        if with_request:
            self.request(held.request)
        self._events.publish(held.person, LEASE, self.lease_of(held).model_dump(mode="json"))

    def request(self, identity: str) -> None:
        """A request has changed."""
        self._situation.changed()
        asked = self._situation.store.asked(identity)
        if asked is not None:
            self._say(asked)

    def positions(self) -> None:
        """Those who wait hear when their place or their range is another."""
        for asked in self._situation.now().queued:
            known = self._told.get(asked.id)
            if known is None or _differs(known, self.request_of(asked)):
                self._say(asked)

    def offers(self) -> None:
        """Everybody hears that they should read the offers again, at most once a second."""
        situation = self._situation
        now = situation.now()
        fingerprint = (
            now.state.pools,
            [(held.id, held.state, now.verdicts[held.id].idle_since is None) for held in now.live],
            len(now.queued),
        )
        if fingerprint != self._map and not 0 <= now.at - self._map_at < OFFERS_EVERY:
            self._map, self._map_at = fingerprint, now.at
            self._events.publish(None, OFFERS, {})

    def _say(self, asked: Asked) -> None:
        view = self.request_of(asked)
        if asked.ended is None:
            self._told[asked.id] = view
        else:
            self._told.pop(asked.id, None)
        self._events.publish(asked.person, REQUEST, view.model_dump(mode="json"))


def _differs(known: Request, present: Request) -> bool:
    """Whether it is worth saying again."""
    if known.model_copy(update={"wait": None}) != present.model_copy(update={"wait": None}):
        return True
    return _far(known.wait, present.wait)


def _far(one: Range | None, other: Range | None) -> bool:
    if one is None or other is None or (one.high is None) != (other.high is None):
        return one != other
    pairs = [(one.low, other.low), (one.high or 0, other.high or 0)]
    return any(abs(a - b) > MINUTE and max(a, b) > COARSE * min(a, b) for a, b in pairs)
