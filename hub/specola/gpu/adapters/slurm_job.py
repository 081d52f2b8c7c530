"""Slurm's half of a job at a site; tested with Slurm 24.11.

It runs sbatch, squeue and scancel as the person. `kernel.json` travels inside the batch script, which Slurm shows to
nobody but the job's owner and its operators, and lies in a 0600 file where the job runs: arguments, names and
environments of jobs are readable for everybody. squeue prints chosen fields as text: what `--json` prints changes from
release to release and, in some, is the whole site's queue.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from specola.gpu import site_reasons as reasons
from specola.gpu.adapters.site_batch import Away, Refused, Seen

SCRIPT, SETTINGS, MARK = "run.sh", "kernel.json", "@SETTINGS@"
PATIENCE = 60.0
FIELDS = "%A|%T|%r|%N"
WAITING = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"})
RUNNING = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT"})
PASSING = ("unable to contact", "socket timed out", "connection refused", "protocol authentication", "munge", "busy")
"""failures of the way to the site, not of what is asked"""
UNKNOWN = "invalid job id"
HELD = ("JobHeldAdmin", "JobHeldUser")
TAIL = 4096


def batch(wish: Mapping[str, Any], place: Path) -> SlurmBatch:
    """The half for a wish with `mark`, `programs`, `options` and, where the home is shared, `errors`."""
    return SlurmBatch(wish, place)


class SlurmBatch:
    """One person's use of a Slurm for one lease."""

    def __init__(self, wish: Mapping[str, Any], place: Path) -> None:
        self._wish = wish
        self._place = place

    def _run(self, program: str, *arguments: str, script: str = "") -> str:
        """What a program prints; Away where the site does not answer, Refused where it does and says no."""
        argv = [str(Path(self._wish["programs"]) / program), *arguments]
        try:
            done = subprocess.run(argv, input=script, capture_output=True, text=True, check=False, timeout=PATIENCE)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Away(f"Slurm does not answer: {program}: {reasons.short(error)}.") from error
        if done.returncode == 0:
            return done.stdout
        said = done.stderr.replace(f"{program}: error: ", "")
        if any(sign in said.lower() for sign in PASSING):
            raise Away(f"Slurm does not answer: {reasons.short(said)}.")
        raise Refused(said)

    def find(self) -> list[str]:
        """Jobs with the lease's mark for a name."""
        try:
            lines = self._run(
                "squeue", "--noheader", "--me", f"--name={self._wish['mark']}", "--format=%A|%T"
            ).splitlines()
        except Refused as error:
            raise Away(f"Slurm does not say what runs: {reasons.short(error)}.") from error
        jobs = [line.split("|") for line in lines]
        live = [int(job) for job, state in jobs if state in WAITING | RUNNING and state != "COMPLETING"]
        return [str(job) for job in sorted(live, reverse=True)]

    def submit(self) -> str:
        """Send the job."""
        if self._wish.get("errors"):
            Path(self._wish["errors"]).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        script = (self._place / SCRIPT).read_text().replace(MARK, (self._place / SETTINGS).read_text())
        try:
            said = self._run(
                "sbatch", "--parsable", f"--job-name={self._wish['mark']}", *self._wish["options"], script=script
            )
        except Refused as error:
            raise Refused(reasons.refused(str(error))) from error
        return said.split(";")[0].strip()

    def look(self, job: str) -> Seen:
        """How it is: in the queue, or among those that ended lately."""
        try:
            lines = self._run(
                "squeue", "--noheader", "--states=all", f"--jobs={job}", f"--format={FIELDS}"
            ).splitlines()
        except Refused as error:
            if UNKNOWN not in str(error).lower():
                raise Away(f"Slurm does not say how the job is: {reasons.short(error)}.") from error
            lines = []
        if not lines:
            return Seen("gone")
        _, state, reason, host = lines[0].split("|")
        if state in WAITING:
            if reason in HELD:
                self.remove(job)
                return Seen("gone", reasons.slurm_waiting(reason))
            return Seen("waiting", reasons.slurm_waiting(reason))
        if state in RUNNING:
            return Seen("running", host=host)
        return Seen("gone", reasons.slurm_ended(state, self._code(job), self._errors()))

    def _code(self, job: str) -> int:
        """The exit code, negative for a signal; 0 where nobody remembers."""
        with contextlib.suppress(Refused, Away, ValueError):
            for word in self._run("scontrol", "show", "job", job, "--oneliner").split():
                if word.startswith("ExitCode="):
                    code, _, signum = word.removeprefix("ExitCode=").partition(":")
                    return -int(signum) if int(signum or 0) else int(code)
        return 0

    def _errors(self) -> str:
        """The last lines that the worker wrote, where its home is ours."""
        file = self._wish.get("errors")
        with contextlib.suppress(OSError):
            if file:
                lines = Path(file).read_text(errors="replace")[-TAIL:].split("\n")
                Path(file).unlink()
                return " / ".join([line.strip() for line in lines if line.strip()][-2:])
        return ""

    def remove(self, job: str) -> None:
        """Take it back."""
        with contextlib.suppress(Refused):
            self._run("scancel", job)
