"""Kernel workers on this machine, as programs of the launcher under their person's account."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path

from specola.client.launcher import Alive, Launcher
from specola.core.errors import SpecolaError
from specola.gpu.model import Gone, Running, Waiting, Work

PREFIX = "gpu."
SETTINGS = "kernel.json"
WORKER = "specola_worker.kernel"
GRACE = 5.0
TAIL = 4096
LINES, WIDTH = 3, 200


def key(lease: str) -> str:
    """The launcher's name of a lease's worker."""
    return f"{PREFIX}{lease}"


class LauncherRunner:
    """Starts workers with `python`, within a server's limits of memory and processors.

    A launcher that does not answer says nothing about its programs: `poll` raises Unavailable then, and whoever asks
    takes what runs for alive.
    """

    site = "this machine"

    def __init__(
        self,
        launcher: Launcher,
        python: Path,
        *,
        memory_gib: float | None = None,
        cores: float | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._launcher = launcher
        self._python = python
        self._memory_gib = memory_gib
        self._cores = cores
        self._environment = dict(environment or {})

    async def start(self, work: Work) -> None:
        """Start the worker; its settings hold a secret and are a file that only the person's account reads."""
        await self._launcher.start(
            key(work.lease),
            work.person,
            [str(self._python), "-P", "-m", WORKER, f"{{files}}/{SETTINGS}"],
            self._variables(work),
            files={SETTINGS: json.dumps(dict(work.settings))},
            memory_gib=self._memory_gib,
            cores=self._cores,
        )

    def _variables(self, work: Work) -> dict[str, str]:
        own = {"PATH": f"{self._python.parent}:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
        return own | self._environment | dict(work.environment) | {"SPECOLA_GPU_LEASE": work.lease}

    async def poll(self, lease: str) -> Waiting | Running | Gone:
        """How it is; one that failed says so with the last lines of its log."""
        state = await self._launcher.poll(key(lease))
        if isinstance(state, Alive):
            return Running(platform.node())
        return Gone(await self._why(lease, state.code)) if state.code else Gone()

    async def _why(self, lease: str, code: int) -> str:
        how = f"by signal {-code}" if code < 0 else f"with code {code}"
        try:
            said = last_lines(await self._launcher.log(key(lease), TAIL))
        except SpecolaError:
            said = ""
        return f"The kernel's worker ended {how}: {said}" if said else f"The kernel's worker ended {how}."

    async def stop(self, lease: str) -> None:
        """End the worker with all that it started."""
        await self._launcher.end(key(lease), grace=GRACE)

    async def leases(self) -> frozenset[str]:
        """Leases whose worker runs."""
        return frozenset(name.removeprefix(PREFIX) for name in await self._launcher.keys(PREFIX))


def last_lines(log: str) -> str:
    """The end of a log as one line."""
    said = [line.strip()[:WIDTH] for line in log.splitlines() if line.strip()]
    return " / ".join(said[-LINES:])
