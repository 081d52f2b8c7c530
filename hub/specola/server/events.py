"""`GET /events`: everything that happens to the caller, on one stream."""

from __future__ import annotations

from collections.abc import AsyncIterator

from specola.core.events import RESYNC, Bus, Event, Subscription
from specola.core.scopes import IDENTITY
from specola.http.route import Caller, Request, Route
from specola.http.sse import Stream, resume_from


def visible(caller: Caller, event: Event) -> bool:
    """Whether the caller's token may read about this feature; that events are missing concerns everybody."""
    return event.type == RESYNC or caller.may(f"custom:specola:{event.type.partition('.')[0]}")


async def _visible(caller: Caller, subscription: Subscription) -> AsyncIterator[Event]:
    async for event in subscription:
        if visible(caller, event):
            yield event


def routes(bus: Bus) -> list[Route]:
    """The one route over the bus."""

    async def events(caller: Caller, request: Request) -> Stream:
        last = resume_from(request.last_event_id, request.query.get("last_event_id"))
        subscription = bus.subscribe(caller.name, last)
        return Stream(_visible(caller, subscription), subscription.close)

    return [
        Route(
            "GET",
            "/events",
            IDENTITY,
            events,
            stream=True,
            summary="Everything that happens to me, as it happens",
            query={"last_event_id": "go on after this event, for clients that cannot set the header"},
        )
    ]
