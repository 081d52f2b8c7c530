"""One job at a site, watched from its submission to its end: `python -m specola.gpu.adapters.site_job FILE`.

The launcher runs this program as the person, with the person's own credentials for the site, one for each lease. It
prints how the job is as one line of JSON whenever that changes. Asked to end, it takes the job back first. A job
carries the mark of its lease and is looked for before one is sent: a program that was killed and started again finds
what it had sent, and nothing is sent twice.

FILE is a JSON object: `kind`, `mode` (`start`; `watch` sends nothing new; `stop`), `mark`, and what the site's half
needs. What else the job takes along lies beside it.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from specola.gpu.adapters.site_batch import Away, Batch, Refused, Seen

FIRST_LOOKS = 60
SOON, LATER = 1.0, 5.0
"""seconds between two looks: at a job that has just been sent, and at others"""
AWAY = 5.0
"""seconds between two tries to reach a site that does not answer"""
GONE_WITHIN = 8
"""looks, a second apart, that a job that was taken back may need to leave"""
HALVES = {"condor": "specola.gpu.adapters.condor_job", "slurm": "specola.gpu.adapters.slurm_job"}

Say = Callable[[Seen], None]


class Watch:
    """The life of one job; `wait(seconds)` says whether it is time to end.

    The file `sent` is made before the job is: without it, nothing was ever sent.
    """

    def __init__(self, batch: Batch, say: Say, wait: Callable[[float], bool], sent: Path) -> None:
        self._batch = batch
        self._say = say
        self._wait = wait
        self._sent = sent
        self._said: Seen | None = None
        self._looks = 0

    def run(self, mode: str) -> None:
        """Send or find the job, watch it to its end; or take it back."""
        if mode == "start":
            self._tell(Seen("waiting", "The job is being sent to the site."))
        try:
            job = self._begin(mode)
            if job is None or mode == "stop":
                self._tell(Seen("gone"))
            elif not self._follow(job):
                self._take_back(job)
        except Refused as error:
            self._tell(Seen("gone", str(error)))
        except Away:
            # asked to end while nobody answers: a last word only where there cannot be a job
            if mode == "start" and not self._sent.exists():
                self._tell(Seen("gone"))

    def _tell(self, seen: Seen) -> None:
        if seen != self._said:
            self._said = seen
            self._say(seen)

    def _begin(self, mode: str) -> str | None:
        """The job, found or sent; None where there is none."""
        while True:
            try:
                found = self._batch.find()
                for doubled in found if mode == "stop" else found[1:]:
                    self._batch.remove(doubled)
                if found or mode != "start":
                    return found[0] if found else None
                self._sent.touch()
                return self._batch.submit()
            except Away as error:
                if mode == "start":
                    self._tell(Seen("waiting", f"{error} It is tried again."))
                if self._wait(AWAY):
                    raise

    def _follow(self, job: str) -> bool:
        """Watch it; whether it is gone by itself."""
        while True:
            try:
                seen = self._batch.look(job)
            except Away as error:
                # a site that does not answer says nothing about its jobs
                if self._said is None or self._said.state == "waiting":
                    self._tell(Seen("waiting", f"{error} It is tried again."))
            else:
                self._tell(seen)
                if seen.state == "gone":
                    return True
            self._looks += 1
            if self._wait(SOON if self._looks < FIRST_LOOKS else LATER):
                return False

    def _take_back(self, job: str) -> None:
        for _ in range(GONE_WITHIN):
            try:
                self._batch.remove(job)
                if self._batch.look(job).state == "gone":
                    self._tell(Seen("gone"))
                    return
            except Away:
                pass
            self._wait(0)
            pause.wait(SOON)


pause = threading.Event()
"""Nobody sets it: a sleep that tests can shorten"""


def half(wish: Mapping[str, Any], place: Path) -> Batch:
    """The half of a site's kind; its libraries are loaded here, where they are needed."""
    made: Batch = import_module(HALVES[wish["kind"]]).batch(wish, place)
    return made


def main(arguments: list[str]) -> int:
    """Run until the job is gone, or until asked to end."""
    file = Path(arguments[0])
    wish = json.loads(file.read_text())
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())

    def say(seen: Seen) -> None:
        sys.stdout.write(json.dumps(asdict(seen)) + "\n")
        sys.stdout.flush()

    try:
        batch = half(wish, file.parent)
    except ImportError as error:
        say(Seen("gone", f"The hub lacks a library for this site ({error.name}). Please tell the operators."))
        return 1
    Watch(batch, say, ending.wait, file.with_name("sent")).run(wish["mode"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
