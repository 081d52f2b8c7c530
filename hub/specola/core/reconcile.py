"""A loop that keeps making the world what it should be."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)


class Reconciler:
    """Runs `step` every `period` seconds and when woken; a failing step is tried again, ever more rarely.

    One step runs at a time. The loop ends only with `stop`.
    """

    def __init__(
        self, name: str, step: Callable[[], Awaitable[None]], *, period: float, longest_pause: float = 300
    ) -> None:
        self.name = name
        self.failures = 0
        self._step = step
        self._period = period
        self._longest_pause = longest_pause
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, with the first step at once."""
        self._task = asyncio.create_task(self._run(), name=f"reconcile {self.name}")

    def wake(self) -> None:
        """Do the next step now."""
        self._wake.set()

    async def stop(self) -> None:
        """End; a step that runs is cancelled."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def pause(self) -> float:
        """Seconds until the next step: the period, doubled for each failure in a row, with jitter."""
        pause: float = min(self._period * 2**self.failures, max(self._longest_pause, self._period))
        return pause * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load, guards nothing

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._step()
            except Exception as error:  # noqa: BLE001 - see below
                # whatever it was, a loop that died would be worse: this one is the only owner of its state
                self.failures = min(self.failures + 1, 16)
                log.warning("%s failed (%d in a row): %s: %s", self.name, self.failures, type(error).__name__, error)
            else:
                self.failures = 0
            try:
                await asyncio.wait_for(self._wake.wait(), self.pause())
            except TimeoutError:
                continue
