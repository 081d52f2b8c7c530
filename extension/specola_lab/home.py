"""`specola/home`: how full the home is, measured in the background."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

from jupyter_server.auth.decorator import authorized
from tornado import web

from specola_lab.base import SpecolaHandler
from specola_lab.settings import GIB

EVERY_SECONDS = 300.0
REST = 20.0
"""a measurement that took a minute is not repeated within twenty"""
PAUSE_EVERY = 2000


def measure(folder: Path, pause: float = 0.005) -> int:
    """Bytes on disk below a folder, on its file system only; hard links count once, what vanishes meanwhile not.

    Sleeps after every 2000 entries: a home with a million files must not keep the disk busy.
    """
    total, seen, links = 0, 0, set[tuple[int, int]]()
    device = folder.stat().st_dev
    waiting = [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    seen += 1
                    if seen % PAUSE_EVERY == 0:
                        time.sleep(pause)
                    total += _size(entry, device, waiting, links)
        except OSError:
            continue
    return total


def _size(entry: os.DirEntry[str], device: int, waiting: list[str], links: set[tuple[int, int]]) -> int:
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return 0
    if found.st_dev != device:
        return 0
    if entry.is_dir(follow_symlinks=False):
        waiting.append(entry.path)
    elif found.st_nlink > 1:
        if (found.st_ino, found.st_dev) in links:
            return 0
        links.add((found.st_ino, found.st_dev))
    return found.st_blocks * 512


class HomeUse:
    """The last measurement, renewed in a thread when it is old and somebody asks."""

    def __init__(self, home: Path, quota_gib: float | None) -> None:
        self.home = home
        self.quota = None if quota_gib is None else int(quota_gib * GIB)
        self._used: int | None = None
        self._measured = 0.0
        self._took = 0.0
        self._task: asyncio.Task[None] | None = None

    async def _renew(self) -> None:
        begin = time.monotonic()
        self._used = await asyncio.to_thread(measure, self.home)
        self._took = time.monotonic() - begin
        self._measured = time.time()

    def latest(self) -> int | None:
        """Bytes at the last measurement, None before the first; begins another one when that is old."""
        old = time.time() - self._measured > max(EVERY_SECONDS, REST * self._took)
        if old and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._renew())
        return self._used

    async def report(self) -> dict[str, Any]:
        """Waits only for the very first measurement."""
        if self.latest() is None and self._task is not None:
            await self._task
        used = self._used or 0
        percent = None if not self.quota else round(100 * used / self.quota, 1)
        return {"used": used, "quota": self.quota, "percent": percent, "measured": self._measured}


class HomeHandler(SpecolaHandler):
    """Bytes used, the quota and the percentage."""

    def initialize(self, use: HomeUse) -> None:  # type: ignore[override]
        """Called by tornado for each request."""
        super().initialize()
        self.use = use

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """The newest measurement, at most five minutes old when the disk keeps up."""
        self.finish(json.dumps(await self.use.report()))


def handlers(use: HomeUse) -> list[tuple[str, Any, dict[str, Any]]]:
    """Addresses below the server's base URL."""
    return [(r"specola/home", HomeHandler, {"use": use})]
