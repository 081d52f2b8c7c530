"""What a site says about a job becomes a sentence with what to do."""

from __future__ import annotations

import pytest
from specola.gpu import site_reasons as reasons

NOW = 1_800_000_000.0


@pytest.mark.parametrize("code", [*range(1, 50), 1000, 0])
def test_every_hold_of_htcondor_is_a_sentence(code: int) -> None:
    said = reasons.condor_held(code, "Error from slot1@n7: it said so. ")
    assert said.endswith(".")
    assert "{" not in said
    assert ".." not in said
    assert reasons.condor_held(code, "").endswith(".")


@pytest.mark.parametrize(
    ("ad", "part"),
    [
        ({}, "decides in its next round"),
        ({"QDate": NOW - 30}, "decides in its next round"),
        ({"QDate": NOW - 600}, "has not decided yet"),
        ({"LastMatchTime": 5}, "has found a slice"),
        ({"LastRejMatchTime": 5, "LastRejMatchReason": "no match found"}, "are taken"),
        ({"LastRejMatchTime": 5, "LastRejMatchReason": "no match found "}, "are taken"),
        ({"LastRejMatchTime": 5, "LastRejMatchReason": "insufficient priority"}, "come first"),
        ({"LastRejMatchTime": 5, "LastRejMatchReason": "submitter limit exceeded"}, "your share"),
        ({"LastRejMatchTime": 5, "LastRejMatchReason": "concurrency limit gpus reached"}, "only so many"),
        ({"LastRejMatchTime": 5, "LastRejMatchReason": "something new"}, "something new."),
        ({"LastRejMatchTime": 5, "LastMatchTime": 9, "LastRejMatchReason": "no match found"}, "has found a slice"),
    ],
)
def test_why_htcondors_job_waits(ad: dict[str, object], part: str) -> None:
    assert part in reasons.condor_waiting(ad, NOW)


def test_why_htcondors_job_is_removed() -> None:
    assert reasons.condor_removed("by the operator ") == "The job was removed at the site: by the operator. Ask again."
    assert reasons.condor_removed(" ") == "The job was cancelled at the site. Ask again."
    assert reasons.evicted() == "The site took the slice back for others. Ask again."


@pytest.mark.parametrize(
    ("reason", "part"),
    [
        ("Resources", "are taken"),
        ("Priority", "Others wait before you"),
        ("None", "about to decide"),
        ("", "about to decide"),
        ("ReqNodeNotAvail, UnavailableNodes:n1", "down or reserved"),
        ("(AssocGrpGRES)", "Your group has as much"),
        ("AssocMaxJobsLimit", "You have as much of the site as you may"),
        ("QOSMaxGRESPerUser", "quality of service allows"),
        ("QOSGrpGRES", "used up"),
        ("MaxGRESPerAccount", "as many GPUs"),
        ("SomethingNew", "It waits at the site: SomethingNew."),
    ],
)
def test_why_slurms_job_waits(reason: str, part: str) -> None:
    assert part in reasons.slurm_waiting(reason)


@pytest.mark.parametrize(
    ("state", "code", "part"),
    [
        ("COMPLETED", 0, ""),
        ("CANCELLED by 0", 0, "was cancelled"),
        ("CANCELLED+", 0, "was cancelled"),
        ("OUT_OF_MEMORY", 0, "more memory"),
        ("PREEMPTED", 0, "took the slice back"),
        ("FAILED", 126, "cannot be run"),
        ("FAILED", 0, "ended with code 1"),
        ("", 0, "ended with code 1"),
    ],
)
def test_how_slurms_job_ended(state: str, code: int, part: str) -> None:
    said = reasons.slurm_ended(state, code)
    assert part in said
    assert bool(said) == bool(part)


@pytest.mark.parametrize(
    ("said", "part"),
    [
        ("Batch job submission failed: Requested node configuration is not available", "no GPU of this size"),
        ("User's group not permitted to use this partition", "may not use this part"),
        ("DENIED: authorization failed", "may not send jobs"),
        ("something new", "The site does not take the job: something new."),
        (" ", "The site does not take the job."),
        ("x" * 1000, "…"),
    ],
)
def test_why_a_job_is_refused(said: str, part: str) -> None:
    assert part in reasons.refused(said)


def test_how_a_worker_ended() -> None:
    assert reasons.exited(0) == ""
    assert reasons.exited(-11, "said") == "The kernel's worker ended by signal 11: said."
    assert reasons.exited(137) == "The kernel's worker ended by signal 9."
    assert reasons.exited(2) == "The kernel's worker ended with code 2."
