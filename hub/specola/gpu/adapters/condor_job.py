"""HTCondor's half of a job at a site; tested with the bindings 25.14.1 against HTCondor 23.9.6.

The bindings take their configuration and credentials from the account that runs them, so this runs as the person.
`kernel.json` lies beside the wish and travels as a file: an environment or an ad is readable for everybody who may
look at the queue.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import htcondor2

from specola.gpu import site_reasons as reasons
from specola.gpu.adapters.site_batch import Away, Refused, Seen

SCRIPT, SETTINGS, ERRORS = "run.sh", "kernel.json", "worker.err"
TAIL = 4096
ATTRIBUTES = [
    "ClusterId",
    "JobStatus",
    "HoldReasonCode",
    "HoldReason",
    "LastRejMatchReason",
    "LastRejMatchTime",
    "LastMatchTime",
    "QDate",
    "NumJobStarts",
    "RemoteHost",
    "AssignedGPUs",
    "RemoveReason",
    "ExitCode",
    "ExitBySignal",
    "ExitSignal",
]
ALIVE = "(JobStatus != 3 && JobStatus != 4)"
SPOOLING = 16
FAILURES = (htcondor2.HTCondorException, RuntimeError)
PASSING = ("connect", "locate", "timed out", "timeout", "authenticat")
"""failures of the way to the site, not of what is sent"""


def batch(wish: Mapping[str, Any], place: Path) -> CondorBatch:
    """The half for a wish with `mark`, `schedd`, `collector` and `submit`."""
    return CondorBatch(wish, place)


class CondorBatch:
    """One person's use of a schedd for one lease."""

    def __init__(self, wish: Mapping[str, Any], place: Path) -> None:
        self._wish = wish
        self._place = place
        self._mark = f"SpecolaLease == {htcondor2.classad.quote(wish['mark'])}"
        self._remote = wish.get("schedd")
        self._known: Any = None
        self._ran = False

    def _schedd(self) -> Any:
        """The schedd, looked up again after every trouble."""
        if self._known is None:
            collector = self._wish.get("collector")
            try:
                # without a collector's name: the one of the configuration
                pool = htcondor2.Collector(collector) if collector else htcondor2.Collector()
                found = pool.locate(htcondor2.DaemonType.Schedd, self._remote)
            except FAILURES as error:
                raise _away(error) from error
            if found is None:  # Schedd(None) would be another one, this machine's
                raise Away(f"HTCondor does not know the schedd {self._remote}, or it is down.")
            self._known = htcondor2.Schedd(found)
        return self._known

    def _ask(self, constraint: str) -> list[Mapping[str, Any]]:
        try:
            return list(self._schedd().query(constraint, ATTRIBUTES))
        except FAILURES as error:
            self._known = None
            raise _away(error) from error

    def find(self) -> list[str]:
        """Jobs with the mark of the lease."""
        return [
            str(number)
            for number in sorted((_number(a, "ClusterId") for a in self._ask(f"{self._mark} && {ALIVE}")), reverse=True)
        ]

    def submit(self) -> str:
        """Send the job, with its files where the schedd does not see ours."""
        description = htcondor2.Submit(self._description())
        schedd = self._schedd()
        try:
            sent = schedd.submit(description, count=1, spool=bool(self._remote))
            if self._remote:
                schedd.spool(sent)
        except (*FAILURES, ValueError) as error:
            self._known = None
            if any(sign in str(error).lower() for sign in PASSING):
                raise _away(error) from error
            raise Refused(reasons.refused(str(error))) from error
        return str(sent.cluster())

    def _description(self) -> dict[str, str]:
        place = self._place
        own = {
            "executable": str(place / SCRIPT),
            "transfer_input_files": str(place / SETTINGS),
            "encrypt_input_files": SETTINGS,
            "should_transfer_files": "YES",
            "when_to_transfer_output": "ON_EXIT",
            "transfer_output_files": '""',
            "output": "/dev/null",
            "error": str(place / ERRORS),
            "initialdir": str(place),
            "notification": "never",
            "leave_in_queue": "false",
        }
        return own | dict(self._wish["submit"]) | {"My.SpecolaLease": htcondor2.classad.quote(self._wish["mark"])}

    def look(self, job: str) -> Seen:
        """How it is: in the queue, or in what the schedd remembers of ended jobs."""
        constraint = f"ClusterId == {int(job)}"
        found = self._ask(constraint)
        if not found:
            return self._ended(self._remembered(constraint))
        ad = found[0]
        status = _number(ad, "JobStatus")
        if status in (reasons.RUN, reasons.TRANSFERRING, reasons.SUSPENDED):
            self._ran = True
            host = str(ad.get("RemoteHost") or "").rpartition("@")[2]
            return Seen("running", host=host, device=str(ad.get("AssignedGPUs") or ""))
        if status == reasons.HELD and _number(ad, "HoldReasonCode") != SPOOLING:
            self.remove(job)
            return Seen("gone", reasons.condor_held(_number(ad, "HoldReasonCode"), str(ad.get("HoldReason") or "")))
        if status in (reasons.REMOVED, reasons.COMPLETED):
            return self._ended(ad)
        if self._ran or _number(ad, "NumJobStarts"):
            self.remove(job)
            return Seen("gone", reasons.evicted())
        return Seen("waiting", reasons.condor_waiting(ad, time.time()))

    def _remembered(self, constraint: str) -> Mapping[str, Any]:
        with contextlib.suppress(*FAILURES):
            for ad in self._schedd().history(constraint, ATTRIBUTES, match=1):
                known: Mapping[str, Any] = ad
                return known
        return {}

    def _ended(self, ad: Mapping[str, Any]) -> Seen:
        if _number(ad, "JobStatus") == reasons.REMOVED:
            return Seen("gone", reasons.condor_removed(str(ad.get("RemoveReason") or "")))
        if ad.get("ExitBySignal"):
            return Seen("gone", reasons.exited(-_number(ad, "ExitSignal"), self._errors()))
        return Seen("gone", reasons.exited(_number(ad, "ExitCode"), self._errors()))

    def _errors(self) -> str:
        """The last lines that the worker wrote, where they came back."""
        try:
            lines = (self._place / ERRORS).read_text(errors="replace")[-TAIL:].split("\n")
        except OSError:
            return ""
        return " / ".join([line.strip() for line in lines if line.strip()][-2:])

    def remove(self, job: str) -> None:
        """Take it back."""
        try:
            self._schedd().act(htcondor2.JobAction.Remove, f"ClusterId == {int(job)}", reason="its lease ended")
        except FAILURES as error:
            self._known = None
            raise _away(error) from error


def _number(ad: Mapping[str, Any], name: str) -> int:
    value = ad.get(name)
    return value if isinstance(value, int) else 0


def _away(error: Exception) -> Away:
    """The bindings say the same of a site that does not answer and of one that does not know who asks."""
    return Away(f"HTCondor does not answer, or does not accept your credentials: {reasons.short(error)}.")
