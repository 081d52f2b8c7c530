"""Kernel workers at sites whose own negotiator decides: what HTCondor and Slurm share.

The launcher runs a small program for each lease under the person's account (`site_job`); it sends the job, watches it
and takes it back, and says in its log how it is. Here is the service's half: what the job is, and what the log says.

Which lease belongs to whom is noted in a file before anything is started, so that a job whose program died, even with
the whole machine, is found again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shlex
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from specola.client.launcher import Alive, Launcher
from specola.core.accounts import Account, slug
from specola.core.errors import NotFound, Unavailable
from specola.core.files import replace_file
from specola.gpu.geometry import GpuModel
from specola.gpu.model import CondorPool, Gone, Running, SlurmPool, Waiting, Work

log = logging.getLogger(__name__)

PROGRAM = "specola.gpu.adapters.site_job"
WISH, SETTINGS, SCRIPT = "wish.json", "kernel.json", "run.sh"
WORKER = "specola_worker.kernel"
TAIL = 16384
LONGEST = 600
END_GRACE = 15.0
STOP_WITHIN = 20.0
LOOK_EVERY = 0.1
MARGIN = 900
"""seconds that a job may run longer than its lease: for its start, and for saving at the end"""
RESTARTS = 5
LAST_WORDS = 4096
HIDDEN = frozenset({"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"})
"""the site says which GPU a job sees"""
SENDING = Waiting("The job is being sent to the site.")
Said = Mapping[str, Any]


class SiteRunner(ABC):
    """Starts kernel workers as jobs of a site; `facility` is their mark, `notes` our own directory."""

    site = ""
    kind = ""
    settings_variable = ""

    def __init__(
        self,
        launcher: Launcher,
        pool: str,
        section: CondorPool | SlurmPool,
        *,
        model: GpuModel,
        facility: str,
        notes: Path,
    ) -> None:
        self._launcher = launcher
        self._facility = facility
        self._section = section
        self.model = model
        self._prefix = f"gpu-site.{slug(pool)}."
        self._notes = notes / f"{slug(pool)}.json"
        self._restarts: dict[str, int] = {}

    # ---- what a site says of itself

    @abstractmethod
    def reach(self) -> dict[str, Any]:
        """How the site's half finds it."""

    @abstractmethod
    def job(self, work: Work, account: Account) -> dict[str, Any]:
        """What the site's half sends."""

    @abstractmethod
    def script(self, work: Work) -> str:
        """What runs at the site."""

    # ---- the runner

    async def start(self, work: Work) -> None:
        """Have the job sent; one that waits or runs for this lease already is left as it is."""
        account = await self._launcher.account(work.person)
        self._note(work.lease, work.person)
        self._restarts.pop(work.lease, None)
        files = {SETTINGS: json.dumps(dict(work.settings)), SCRIPT: self.script(work)}
        await self._program(work.lease, work.person, "start", account=account, job=self.job(work, account), files=files)

    async def poll(self, lease: str) -> Waiting | Running | Gone:
        """How it is. A program that died without a last word is started again, to find its job."""
        alive = isinstance(await self._launcher.poll(self._key(lease)), Alive)
        said = await self._said(lease)
        if alive:
            # a last word is the one of an earlier program
            return SENDING if said is None or said["state"] == "gone" else _state(said)
        if said is not None and said["state"] == "gone":
            return _state(said)
        person = self._known().get(lease)
        if person is None:
            return Gone()
        self._restarts[lease] = self._restarts.get(lease, 0) + 1
        if self._restarts[lease] > RESTARTS:
            return Gone("What watches the job at the site ends again and again. Please tell the operators.")
        log.warning("the program that watches the job of lease %s is gone: another one looks for the job", lease)
        await self._program(lease, person, "watch")
        return SENDING if said is None else _state(said)

    async def stop(self, lease: str) -> None:
        """Take the job back; one that is gone already is fine. Unavailable when the site does not let us know."""
        key = self._key(lease)
        await self._launcher.end(key, grace=END_GRACE)
        person = self._known().get(lease)
        said = await self._said(lease)
        if person is not None and (said is None or said["state"] != "gone"):
            # its program died before it could, or did not come to an end
            await self._program(lease, person, "stop")
            await self._ended(key)
            await self._launcher.end(key, grace=END_GRACE)
            said = await self._said(lease)
            if said is None or said["state"] != "gone":
                raise Unavailable(f"{self.site} does not answer", "The job is taken back as soon as it does.")
        self._forget(lease)

    async def leases(self) -> frozenset[str]:
        """Leases that a program watches over, or that were not taken back yet."""
        watched = {key.removeprefix(self._prefix) for key in await self._launcher.keys(self._prefix)}
        return frozenset(watched | self._known().keys())

    # ---- the program at the launcher

    def _key(self, lease: str) -> str:
        return f"{self._prefix}{lease}"

    async def _program(
        self,
        lease: str,
        person: str,
        mode: str,
        *,
        account: Account | None = None,
        job: Mapping[str, Any] | None = None,
        files: Mapping[str, str] | None = None,
    ) -> None:
        account = account or await self._launcher.account(person)
        wish = {"kind": self.kind, "mode": mode, "mark": f"{self._facility}.{lease}", **self.reach(), **(job or {})}
        argv = [sys.executable, "-P", "-m", PROGRAM, f"{{files}}/{WISH}"]
        await self._launcher.start(
            self._key(lease),
            person,
            argv,
            self._environment(account),
            files={**(files or {}), WISH: json.dumps(wish)},
        )

    def _environment(self, account: Account) -> dict[str, str]:
        own = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
        if self._section.config is not None:
            own[self.settings_variable] = self._section.config.replace("{account}", account.name)
        return own

    async def _ended(self, key: str) -> None:
        limit = time.monotonic() + STOP_WITHIN
        while isinstance(await self._launcher.poll(key), Alive) and time.monotonic() < limit:  # noqa: ASYNC110 - a program of others
            await asyncio.sleep(LOOK_EVERY)

    async def _said(self, lease: str) -> Said | None:
        """The program's last word on the job. It runs as the person: nothing but its form is believed."""
        try:
            text = await self._launcher.log(self._key(lease), TAIL)
        except NotFound:
            return None
        return last_word(text)

    # ---- who holds what, beside the program

    def _known(self) -> dict[str, str]:
        try:
            known: dict[str, str] = json.loads(self._notes.read_text())
        except FileNotFoundError:
            return {}
        return known

    def _note(self, lease: str, person: str) -> None:
        known = self._known()
        if known.get(lease) != person:
            self._notes.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._notes, json.dumps({**known, lease: person}))

    def _forget(self, lease: str) -> None:
        known = self._known()
        self._restarts.pop(lease, None)
        if known.pop(lease, None) is not None:
            replace_file(self._notes, json.dumps(known))


def last_word(text: str) -> Said | None:
    """The last line that says how a job is."""
    for line in reversed(text.splitlines()):
        try:
            said = json.loads(line)
        except ValueError:
            continue
        names = ("state", "reason", "host", "device")
        if isinstance(said, dict) and said.get("state") in {"waiting", "running", "gone"}:
            return {name: str(said.get(name, ""))[:LONGEST] for name in names}
    return None


def _state(said: Said) -> Waiting | Running | Gone:
    if said["state"] == "running":
        return Running(said["host"], said["device"])
    return Waiting(said["reason"]) if said["state"] == "waiting" else Gone(said["reason"])


def exports(work: Work) -> str:
    """The environment of the worker, as lines of its script; the GPU in it is the site's to choose."""
    chosen = {name: value for name, value in work.environment.items() if name not in HIDDEN}
    chosen |= {"LANG": "C.UTF-8", "SPECOLA_GPU_LEASE": work.lease}
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in sorted(chosen.items()))


def worker(python: str, place: str) -> str:
    """The lines that run the worker with its settings in `place`, a word of the shell, and end as it does.

    A signal to the job reaches it, and of what it writes only the end goes back: a kernel may print without end.
    Python looks for nothing (`-P`) where the job starts: in /tmp anybody may leave a `json.py`.
    """
    return "\n".join(
        [
            f'{shlex.quote(python)} -P -m {WORKER} "{place}/{SETTINGS}" >/dev/null 2>"{place}/errors" &',
            "child=$!",
            "trap 'kill \"$child\" 2>/dev/null' TERM INT",
            'wait "$child"; code=$?',
            # a signal breaks the wait before the worker has ended
            'while [ "$code" -gt 128 ] && kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done',
            f'tail -c {LAST_WORDS} "{place}/errors" >&2',
            'exit "$code"',
        ]
    )
