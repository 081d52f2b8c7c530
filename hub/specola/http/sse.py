"""Server-sent events: a stream that resumes, and says every 15 s that it lives."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from specola.core.events import Event

HEARTBEAT = 15.0
RETRY_MS = 2000
DIGITS = 18
HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
BEAT = ": alive\n\n"


@dataclass(frozen=True)
class Stream:
    """An answer that goes on: events, and what to do when its reader has gone."""

    events: AsyncIterator[Event]
    close: Callable[[], None] = lambda: None

    async def end(self) -> None:
        """Let go of what feeds the stream."""
        self.close()
        if isinstance(self.events, AsyncGenerator):
            await self.events.aclose()


def opening() -> str:
    """The first line: how soon a browser connects again."""
    return f"retry: {RETRY_MS}\n\n"


def encode(event: Event) -> str:
    """One event on the wire; `event:` is left out so that one reader sees every type."""
    document: dict[str, Any] = {"type": event.type, "data": event.data}
    return f"id: {event.id}\ndata: {json.dumps(document, separators=(',', ':'))}\n\n"


def resume_from(header: str | None, query: str | None) -> int | None:
    """The id after which to go on, from `Last-Event-ID` or `?last_event_id`; None when there is none."""
    for text in (header, query):
        if text and text.isascii() and text.isdigit() and len(text) <= DIGITS:
            return int(text)
    return None
