"""How often somebody may try a password."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

TRIES = 5
WINDOW = 60.0
MOST_KEYS = 10_000


class Limiter:
    """Counts wrong passwords per person and address; after `tries` of them both wait for the rest of the window.

    Kept in memory: a restart of the issuer forgives. Passwords are random, so that this is about noise
    and not about what makes guessing hopeless.
    """

    def __init__(self, tries: int = TRIES, window: float = WINDOW, clock: Callable[[], float] = time.monotonic) -> None:
        self._tries = tries
        self._window = window
        self._clock = clock
        self._wrong: dict[tuple[str, str], list[float]] = {}

    def wait(self, name: str, address: str) -> int:
        """Seconds until the next try is allowed; 0 when it is allowed now."""
        recent = self._recent(name, address)
        if len(recent) < self._tries:
            return 0
        return max(1, math.ceil(recent[-self._tries] + self._window - self._clock()))

    def wrong(self, name: str, address: str) -> None:
        """Note a wrong password."""
        if len(self._wrong) >= MOST_KEYS:
            self._wrong.pop(next(iter(self._wrong)))
        self._wrong[name, address] = [*self._recent(name, address), self._clock()]

    def right(self, name: str, address: str) -> None:
        """Forget the wrong ones after a right password."""
        self._wrong.pop((name, address), None)

    def _recent(self, name: str, address: str) -> list[float]:
        since = self._clock() - self._window
        return [at for at in self._wrong.get((name, address), []) if at > since]
