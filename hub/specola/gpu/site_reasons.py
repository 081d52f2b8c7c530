"""What HTCondor and Slurm say about a job, in sentences for the person who waits: what it is, and what to do.

Codes: HTCondor's HoldReasonCode and last reason of a rejection, Slurm's reasons and states of a job. A code that is not
listed is shown in the site's own words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LONGEST = 300
ASK_OPERATOR = "Please tell the operators of the facility."

IDLE, RUN, REMOVED, COMPLETED, HELD, TRANSFERRING, SUSPENDED = range(1, 8)
"""HTCondor's JobStatus"""

_HOLD = {
    1: "Somebody has put the job on hold at the site. Ask again.",
    3: "A rule of the job has put it on hold: {text}. Ask again; if it stays, tell the operators.",
    6: "The kernel's worker could not be started at the site: {text}. " + ASK_OPERATOR,
    7: "The job's output cannot be written: {text}. Is your home full? If not, tell the operators.",
    8: "The job's input cannot be read: {text}. " + ASK_OPERATOR,
    12: "Files could not be sent back from the site: {text}. Ask again; if it stays, tell the operators.",
    13: "Files could not be sent to the site: {text}. Ask again; if it stays, tell the operators.",
    14: "The working directory of the job is missing: {text}. " + ASK_OPERATOR,
    15: "The site takes new jobs on hold only. " + ASK_OPERATOR,
    19: "The site could not prepare the job: {text}. Ask again; if it stays, tell the operators.",
    21: "The machine at the site does not want the job any more: {text}. Ask again.",
    22: "The job's log cannot be written: {text}. Is your home full? If not, tell the operators.",
    23: "The site's machine has no account for you. Ask the site's operators to add it.",
    26: "A rule of the site has put the job on hold: {text}. Ask for less, or ask the site's operators.",
    34: "The kernel used more memory than the job may have, and the site ended it. Use less memory.",
    35: "The container that the site should run cannot be used: {text}. " + ASK_OPERATOR,
    46: "The job ran longer than it may at this site. Ask again.",
    47: "The job ran longer than it may at this site. Ask again.",
}
"""by HoldReasonCode"""

_NO_MATCH = {
    "no match found": "All GPU slices of this size at the site are taken. It starts when one becomes free.",
    "insufficient priority": "Others at the site come first by its priorities. It starts when it is your turn.",
    "preemption_requirements": "All GPU slices of this size at the site are taken. It starts when one becomes free.",
    "submitter limit exceeded": "You have as much of the site as your share allows. End a job there, or wait.",
    "group quota": "Your group has as much of the site as its quota allows. It starts when something of theirs ends.",
    "concurrency limit": "The site runs only so many of these jobs at once. It starts when one of them ends.",
}

_PENDING = {
    "Resources": "All GPU slices of this size at the site are taken. It starts when one becomes free.",
    "Priority": "Others wait before you at the site. It starts when it is your turn.",
    "None": "The site is about to decide.",
    "BeginTime": "The site starts it at a later time.",
    "Dependency": "It waits for another job of yours at the site.",
    "Licenses": "The site has no free licence for it. It starts when one becomes free.",
    "PartitionDown": "This part of the site is out of service. Wait, or choose another pool.",
    "PartitionInactive": "This part of the site is out of service. Wait, or choose another pool.",
    "PartitionTimeLimit": "The time asked for is longer than this part of the site allows. Ask for less time.",
    "PartitionNodeLimit": "This part of the site cannot run it. Choose another size or pool.",
    "ReqNodeNotAvail": "The machines that could run it are down or reserved. It starts when they are back.",
    "NodeDown": "The machine that should run it is down. It starts when the machine is back.",
    "Reservation": "The machines are reserved. It starts when the reservation ends.",
    "JobHeldAdmin": "The site's operators have put the job on hold. Ask them, or release it and ask again.",
    "JobHeldUser": "The job is on hold at the site. Release it there, or release the lease and ask again.",
    "BadConstraints": "No machine of the site can run it. Choose another size.",
    "InvalidAccount": "The site does not know your account there. Ask the site's operators to add it.",
    "InvalidQOS": "Your account may not use this kind of service at the site. Ask its operators.",
    "Cleaning": "The site tidies up after the last try. It starts soon.",
    "JobLaunchFailure": "The site could not start it. Release the lease and ask again.",
    "QOSJobLimit": "You have as many jobs as the site allows you. End one there, or wait.",
}
_PENDING_BEGINS = {
    "AssocGrp": "Your group has as much of the site as it may. It starts when something of theirs ends.",
    "AssocMax": "You have as much of the site as you may. End a job there, or wait.",
    "QOSGrp": "The site's quality of service is used up at present. It starts when something in it ends.",
    "QOSMax": "You have as much of the site as its quality of service allows. End a job there, or wait.",
    "MaxGRES": "You have as many GPUs of the site as you may. End a job there, or wait.",
}

_ENDED = {
    "CANCELLED": "The job was cancelled at the site. Ask again.",
    "TIMEOUT": "The job ran longer than it may at this site. Ask again.",
    "DEADLINE": "The job could not end in time at this site. Ask again.",
    "NODE_FAIL": "The machine at the site failed. Ask again.",
    "BOOT_FAIL": "The machine at the site failed. Ask again.",
    "OUT_OF_MEMORY": "The kernel used more memory than the job may have, and the site ended it. Use less memory.",
    "PREEMPTED": "The site took the slice back for others. Ask again.",
    "REVOKED": "The job was moved away by the site. Ask again.",
}

_REFUSED = {
    "requested node configuration is not available": "The site has no GPU of this size. Choose another size.",
    "invalid generic resource": "The site has no GPU of this size. Choose another size.",
    "invalid account": "The site does not know your account there. Ask the site's operators to add it.",
    "invalid qos": "Your account may not use this kind of service at the site. Ask its operators.",
    "invalid partition": "The part of the site that the facility names does not exist. " + ASK_OPERATOR,
    "user's group not permitted": "Your account may not use this part of the site. Ask its operators.",
    "time limit": "The time asked for is longer than the site allows. Ask for less time.",
    "violates accounting": "You have as much of the site as you may. End a job there, or wait.",
    "authenticat": "The site does not accept your credentials. Renew your token for the site, or ask its operators.",
    "authoriz": "Your account may not send jobs to the site. Ask its operators to allow it.",
    "permission denied": "Your account may not send jobs to the site. Ask its operators to allow it.",
    "max_jobs": "You have as many jobs as the site allows you. End one there, or wait.",
    "number of jobs": "You have as many jobs as the site allows you. End one there, or wait.",
}

_EXITS = {
    126: "The Python that the facility names cannot be run at the site. " + ASK_OPERATOR,
    127: "The Python that the facility names is not there at the site. " + ASK_OPERATOR,
}


def short(text: object) -> str:
    """A site's own words as a part of a sentence."""
    words = " ".join(str(text).split()).rstrip(". ")
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}…"


def refused(said: str) -> str:
    """Why a site does not take a job."""
    lower = said.lower()
    for sign, sentence in _REFUSED.items():
        if sign in lower:
            return sentence
    return f"The site does not take the job: {short(said)}." if said.strip() else "The site does not take the job."


def exited(code: int, said: str = "") -> str:
    """How a worker ended at a site; empty when it simply did."""
    if code == 0:
        return ""
    if code in _EXITS:
        return _EXITS[code]
    code = 128 - code if code > 128 else code  # noqa: PLR2004 - a shell's way to say so
    how = f"by signal {-code}" if code < 0 else f"with code {code}"
    return f"The kernel's worker ended {how}: {short(said)}." if said.strip() else f"The kernel's worker ended {how}."


def condor_waiting(ad: Mapping[str, Any], now: float) -> str:
    """Why HTCondor's job does not run yet."""
    if int(ad.get("LastRejMatchTime") or 0) >= int(ad.get("LastMatchTime") or 0) > -1 and ad.get("LastRejMatchReason"):
        said = str(ad["LastRejMatchReason"])
        for sign, sentence in _NO_MATCH.items():
            if sign in said.lower():
                return sentence
        return f"The site has not found a slice for it yet: {short(said)}."
    if ad.get("LastMatchTime"):
        return "The site has found a slice; the job is being started."
    if now - float(ad.get("QDate") or now) > 180:  # noqa: PLR2004 - several rounds of any pool
        return "The site has not decided yet, longer than usual. " + ASK_OPERATOR
    return "The site decides in its next round, within a minute or so."


def condor_held(code: int, text: str) -> str:
    """Why HTCondor's job is on hold."""
    sentence = _HOLD.get(code, "The site has put the job on hold: {text}. Ask again; if it stays, tell the operators.")
    return sentence.format(text=short(text) or "it gives no reason")


def condor_removed(text: str) -> str:
    """Why HTCondor's job was removed by others than us."""
    return f"The job was removed at the site: {short(text)}. Ask again." if text.strip() else _ENDED["CANCELLED"]


def evicted() -> str:
    """The site took the slice from a job that ran."""
    return _ENDED["PREEMPTED"]


def slurm_waiting(reason: str) -> str:
    """Why Slurm's job does not run yet."""
    # as in `ReqNodeNotAvail, UnavailableNodes:n1`
    word = reason.split(",", maxsplit=1)[0].strip("() ")
    if word in _PENDING:
        return _PENDING[word]
    for begin, sentence in _PENDING_BEGINS.items():
        if word.startswith(begin):
            return sentence
    return f"It waits at the site: {short(reason)}." if word else _PENDING["None"]


def slurm_ended(state: str, code: int, said: str = "") -> str:
    """Why Slurm's job does not run any more; empty when it simply ended."""
    word = state.split(maxsplit=1)[0].rstrip("+") if state.strip() else ""
    if word in _ENDED:
        return _ENDED[word]
    if word == "COMPLETED":
        return ""
    return exited(code or 1, said)
