"""One job at a site from its submission to its end: the program that watches it, and each site's half of it.

The sites are scripted here, so that every answer comes; the real ones are in test_sites.
"""

from __future__ import annotations

import json
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from specola.gpu.adapters import condor_job, site_job, slurm_job
from specola.gpu.adapters.site_batch import Away, Refused, Seen
from specola.gpu.adapters.site_job import Watch

WAITING, RUNNING = Seen("waiting", "It waits."), Seen("running", host="n1", device="MIG-1")


class Scripted:
    """A batch system that answers by a list; an exception in it is raised."""

    def __init__(self, *looks: Seen | Exception, found: list[Any] | None = None, submit: Any = "7") -> None:
        self.looks = list(looks)
        self.found = found or [[]]
        self.answer = submit
        self.sent: list[str] = []
        self.removed: list[str] = []
        self.silent = False

    def find(self) -> list[str]:
        return self.given(self.found.pop(0) if len(self.found) > 1 else self.found[0])

    def submit(self) -> str:
        self.sent.append("job")
        return self.given(self.answer)

    def look(self, job: str) -> Seen:
        if job in self.removed:
            return Seen("gone")
        return self.given(self.looks.pop(0) if len(self.looks) > 1 else self.looks[0])

    def remove(self, job: str) -> None:
        if self.silent:
            raise Away("Nobody answers.")
        self.removed.append(job)

    @staticmethod
    def given(value: Any) -> Any:
        if isinstance(value, Exception):
            raise value
        return value


Watched = Callable[..., list[Seen]]


@pytest.fixture
def watch(tmp_path: Path) -> Watched:
    """What is said; it is asked to end after so many waits."""

    def run(batch: Scripted, mode: str = "start", ends_after: int = 1000) -> list[Seen]:
        said: list[Seen] = []
        waits = iter(range(ends_after))
        Watch(batch, said.append, lambda _: next(waits, None) is None, tmp_path / "sent").run(mode)
        return said

    return run


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_job, "SOON", 0.0)


def test_a_job_is_sent_and_told_of_only_when_something_changes(watch: Watched) -> None:
    batch = Scripted(WAITING, WAITING, RUNNING, RUNNING, Seen("gone", "It failed."))
    states = watch(batch)
    assert [one.state for one in states] == ["waiting", "waiting", "running", "gone"]
    assert batch.sent == ["job"]


def test_a_job_that_is_found_is_not_sent_again_and_a_double_is_removed(watch: Watched) -> None:
    batch = Scripted(RUNNING, Seen("gone"), found=[["9", "8"]])
    watch(batch)
    assert (batch.sent, batch.removed) == ([], ["8"])


@pytest.mark.parametrize("mode", ["watch", "stop"])
def test_without_a_job_nothing_is_sent_but_by_start(watch: Watched, mode: str) -> None:
    batch = Scripted(RUNNING)
    assert watch(batch, mode) == [Seen("gone")]
    assert batch.sent == []


def test_stop_removes_whatever_has_the_mark(watch: Watched) -> None:
    batch = Scripted(RUNNING, found=[["9", "8"]])
    assert watch(batch, "stop") == [Seen("gone")]
    assert batch.removed == ["9", "8"]


def test_asked_to_end_it_takes_the_job_back(watch: Watched) -> None:
    batch = Scripted(RUNNING)
    assert watch(batch, ends_after=2)[-1] == Seen("gone")
    assert batch.removed == ["7"]


def test_a_site_that_does_not_answer_while_it_is_asked_to_end_is_asked_again_and_left(watch: Watched) -> None:
    batch = Scripted(RUNNING)
    batch.silent = True
    assert watch(batch, ends_after=2)[-1] == RUNNING


def test_a_site_that_does_not_answer_is_waited_for(watch: Watched) -> None:
    batch = Scripted(Away("Away."), RUNNING, Away("Away."), Seen("gone"), found=[Away("Not there."), []])
    reasons = [one.reason for one in watch(batch)]
    assert reasons == [
        "The job is being sent to the site.",
        "Not there. It is tried again.",
        "Away. It is tried again.",
        "",
        "",
    ]


@pytest.mark.parametrize("mode", ["watch", "stop"])
def test_while_a_site_does_not_answer_no_job_is_called_gone(watch: Watched, mode: str) -> None:
    assert watch(Scripted(RUNNING, found=[Away("Not there.")]), mode, ends_after=1) == []


def test_what_was_never_sent_is_gone_though_nobody_answers(watch: Watched) -> None:
    assert watch(Scripted(RUNNING, found=[Away("Not there.")]), ends_after=1)[-1] == Seen("gone")


def test_what_may_have_been_sent_is_not_called_gone(watch: Watched) -> None:
    said = watch(Scripted(RUNNING, submit=Away("It hung up.")), ends_after=1)
    assert said[-1] == Seen("waiting", "It hung up. It is tried again.")


def test_a_job_that_the_site_refuses_is_gone_with_its_sentence(watch: Watched) -> None:
    assert watch(Scripted(RUNNING, submit=Refused("No such size.")))[-1] == Seen("gone", "No such size.")


def test_the_program_prints_lines_and_ends_by_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    batch = Scripted(RUNNING)
    handlers: dict[int, Callable[..., None]] = {}
    monkeypatch.setattr(signal, "signal", lambda number, handler: handlers.update({number: handler}))
    monkeypatch.setattr(site_job, "half", lambda *_: batch)
    wish = tmp_path / "wish.json"
    wish.write_text(json.dumps({"mode": "start"}))

    def look(job: str) -> Seen:
        handlers[signal.SIGTERM](signal.SIGTERM, None)
        return Seen("gone") if batch.removed else RUNNING

    monkeypatch.setattr(batch, "look", look)
    assert site_job.main([str(wish)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["state"] for line in lines] == ["waiting", "running", "gone"]
    assert lines[1]["device"] == "MIG-1"


def test_a_library_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "htcondor2", None)
    monkeypatch.delitem(sys.modules, "specola.gpu.adapters.condor_job")
    wish = tmp_path / "wish.json"
    wish.write_text(json.dumps({"mode": "start", "kind": "condor"}))
    assert site_job.main([str(wish)]) == 1
    assert "lacks a library for this site (htcondor2)" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_it_is_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["site_job", str(tmp_path / "none")])
    with pytest.raises(FileNotFoundError):
        runpy.run_module("specola.gpu.adapters.site_job", run_name="__main__")


# ---- HTCondor's half


class Schedd:
    """Stands in for the bindings' one: a queue and a history as lists of ads."""

    def __init__(self) -> None:
        self.queue: list[dict[str, Any]] = []
        self.past: list[dict[str, Any]] = []
        self.acts: list[tuple[Any, str]] = []
        self.spooled: list[Any] = []
        self.trouble: Exception | None = None

    def check(self) -> None:
        if self.trouble:
            raise self.trouble

    def query(self, constraint: str, _: list[str]) -> list[dict[str, Any]]:
        self.check()
        return self.queue

    def history(self, constraint: str, _: list[str], match: int) -> Iterator[dict[str, Any]]:
        self.check()
        return iter(self.past[:match])

    def submit(self, description: Any, count: int, spool: bool) -> Any:
        self.check()
        self.described = dict(description)
        return self

    def cluster(self) -> int:
        return 42

    def spool(self, sent: Any) -> None:
        self.spooled.append(sent)

    def act(self, action: Any, constraint: str, reason: str) -> None:
        self.check()
        self.acts.append((action, constraint))


@pytest.fixture
def schedd(monkeypatch: pytest.MonkeyPatch) -> Schedd:
    one = Schedd()

    class Collector:
        def __init__(self, name: str | None = None) -> None:
            if name == "silent":
                raise condor_job.htcondor2.HTCondorException("Failed communication with collector.")

        def locate(self, kind: Any, name: str | None = None) -> Any:
            return None if name == "unknown" else {"Name": name}

    monkeypatch.setattr(condor_job.htcondor2, "Collector", Collector)
    monkeypatch.setattr(condor_job.htcondor2, "Schedd", lambda _: one)
    return one


def condor(tmp_path: Path, **wish: Any) -> condor_job.CondorBatch:
    known = {"mark": "f.lease", "schedd": None, "collector": None, "submit": {"request_gpus": "1"}, **wish}
    return condor_job.batch(known, tmp_path)


def test_htcondors_job_takes_its_settings_as_a_file(tmp_path: Path, schedd: Schedd) -> None:
    assert condor(tmp_path).submit() == "42"
    assert schedd.described["transfer_input_files"] == str(tmp_path / "kernel.json")
    assert schedd.described["encrypt_input_files"] == "kernel.json"
    assert schedd.described["My.SpecolaLease"] == '"f.lease"'
    assert schedd.described["request_gpus"] == "1"
    assert not schedd.spooled
    condor(tmp_path, schedd="ce1").submit()
    assert schedd.spooled


@pytest.mark.parametrize("wish", [{"schedd": "unknown"}, {"collector": "silent"}])
def test_a_schedd_that_cannot_be_found_is_away(tmp_path: Path, schedd: Schedd, wish: dict[str, str]) -> None:
    with pytest.raises(Away):
        condor(tmp_path, **wish).find()


def test_htcondors_troubles_are_told_from_its_refusals(tmp_path: Path, schedd: Schedd) -> None:
    batch = condor(tmp_path)
    schedd.trouble = condor_job.htcondor2.HTCondorException("Failed to connect to schedd.")
    for ask in (batch.find, batch.submit, lambda: batch.look("1"), lambda: batch.remove("1")):
        with pytest.raises(Away):
            ask()
    schedd.trouble = condor_job.htcondor2.HTCondorException("Number of submitted jobs would exceed MAX_JOBS")
    with pytest.raises(Refused, match="as many jobs as the site allows"):
        batch.submit()


def test_htcondors_jobs_are_found_the_newest_first(tmp_path: Path, schedd: Schedd) -> None:
    schedd.queue = [{"ClusterId": 3}, {"ClusterId": 11}]
    assert condor(tmp_path).find() == ["11", "3"]


@pytest.mark.parametrize(
    ("ad", "seen"),
    [
        ({"JobStatus": 2, "RemoteHost": "slot1_1@n7", "AssignedGPUs": "MIG-1"}, Seen("running", "", "n7", "MIG-1")),
        (
            {"JobStatus": 1, "LastMatchTime": 5},
            Seen("waiting", "The site has found a slice; the job is being started."),
        ),
        ({"JobStatus": 5, "HoldReasonCode": 16}, None),
        (
            {"JobStatus": 5, "HoldReasonCode": 13, "HoldReason": "no such file"},
            Seen(
                "gone", "Files could not be sent to the site: no such file. Ask again; if it stays, tell the operators."
            ),
        ),
        ({"JobStatus": 1, "NumJobStarts": 1}, Seen("gone", "The site took the slice back for others. Ask again.")),
        ({"JobStatus": 3}, Seen("gone", "The job was cancelled at the site. Ask again.")),
        ({"JobStatus": 4, "ExitCode": 0}, Seen("gone")),
        (
            {"JobStatus": 4, "ExitBySignal": True, "ExitSignal": 9},
            Seen("gone", "The kernel's worker ended by signal 9: so it ended."),
        ),
    ],
)
def test_htcondors_ads_are_read(tmp_path: Path, schedd: Schedd, ad: dict[str, Any], seen: Seen | None) -> None:
    (tmp_path / "worker.err").write_text("\nso it ended\n")
    schedd.queue = [ad]
    found = condor(tmp_path).look("7")
    assert found == seen if seen else found.state == "waiting"
    removed = seen is not None and ad["JobStatus"] in {1, 5} and seen.state == "gone"
    assert bool(schedd.acts) == removed


def test_a_job_that_left_the_queue_is_remembered(tmp_path: Path, schedd: Schedd) -> None:
    batch = condor(tmp_path)
    assert batch.look("7") == Seen("gone")
    schedd.past = [{"JobStatus": 3, "RemoveReason": "by its owner"}]
    assert batch.look("7") == Seen("gone", "The job was removed at the site: by its owner. Ask again.")
    schedd.past = [{"JobStatus": 4, "ExitCode": 3}]
    assert batch.look("7") == Seen("gone", "The kernel's worker ended with code 3.")


# ---- Slurm's half


@pytest.fixture
def slurm(tmp_path: Path) -> Callable[..., slurm_job.SlurmBatch]:
    """A Slurm whose programs print what they are told to, and note how they were called."""
    (tmp_path / "run.sh").write_text("settings: @SETTINGS@\n")
    (tmp_path / "kernel.json").write_text('{"secret": "s"}')

    def made(**programs: str) -> slurm_job.SlurmBatch:
        for name, body in programs.items():
            path = tmp_path / name
            path.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/called\n{body}\n')
            path.chmod(0o755)
        wish = {"mark": "f.lease", "programs": str(tmp_path), "options": ["--gres=gpu:1g.10gb:1"]}
        return slurm_job.batch(wish | {"errors": str(tmp_path / "home" / ".specola" / "l.log")}, tmp_path)

    return made


def test_slurms_job_has_its_settings_in_the_script(tmp_path: Path, slurm: Callable[..., slurm_job.SlurmBatch]) -> None:
    batch = slurm(sbatch=f"cat >{tmp_path}/script; echo '17;cluster'")
    assert batch.submit() == "17"
    assert (tmp_path / "script").read_text() == 'settings: {"secret": "s"}\n'
    called = (tmp_path / "called").read_text()
    assert "--job-name=f.lease --gres=gpu:1g.10gb:1" in called
    assert "secret" not in called
    assert (tmp_path / "home" / ".specola").is_dir()


def test_slurms_troubles_are_told_from_its_refusals(slurm: Callable[..., slurm_job.SlurmBatch]) -> None:
    away = "echo 'squeue: error: Unable to contact slurm controller (connect failure)' >&2; exit 1"
    batch = slurm(sbatch=away, squeue=away, scancel=away)
    for ask in (batch.find, batch.submit, lambda: batch.look("1"), lambda: batch.remove("1")):
        with pytest.raises(Away, match="Slurm does not answer"):
            ask()
    refusal = "echo 'error: Invalid account or account/partition combination specified' >&2; exit 1"
    batch = slurm(sbatch=refusal, squeue=refusal, scancel=refusal)
    with pytest.raises(Refused, match="does not know your account"):
        batch.submit()
    for ask in (batch.find, lambda: batch.look("1")):
        with pytest.raises(Away):
            ask()
    batch.remove("1")


def test_slurms_programs_that_are_missing_are_away(tmp_path: Path) -> None:
    wish = {"mark": "f.l", "programs": "/nowhere", "options": []}
    with pytest.raises(Away, match="squeue"):
        slurm_job.batch(wish, tmp_path).find()


def test_slurms_live_jobs_are_found_the_newest_first(slurm: Callable[..., slurm_job.SlurmBatch]) -> None:
    batch = slurm(squeue="printf '3|RUNNING\\n11|PENDING\\n12|COMPLETING\\n13|FAILED\\n'")
    assert batch.find() == ["11", "3"]


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("7|RUNNING|None|n7", Seen("running", host="n7")),
        ("7|COMPLETING|None|n7", Seen("running", host="n7")),
        ("7|PENDING|Priority|", Seen("waiting", "Others wait before you at the site. It starts when it is your turn.")),
        ("7|COMPLETED|None|n7", Seen("gone")),
        ("7|TIMEOUT|TimeLimit|n7", Seen("gone", "The job ran longer than it may at this site. Ask again.")),
        ("7|FAILED|NonZeroExitCode|n7", Seen("gone", "The kernel's worker ended with code 3: no kernel called that.")),
        ("", Seen("gone")),
    ],
)
def test_slurms_lines_are_read(
    tmp_path: Path, slurm: Callable[..., slurm_job.SlurmBatch], line: str, seen: Seen
) -> None:
    said = tmp_path / "home" / ".specola" / "l.log"
    said.parent.mkdir(parents=True)
    said.write_text("\nno kernel called that\n")
    echo = f"echo '{line}'" if line else "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
    batch = slurm(squeue=echo, scontrol="echo 'JobId=7 JobState=FAILED ExitCode=3:0'")
    assert batch.look("7") == seen


def test_a_signal_of_slurm_is_told(slurm: Callable[..., slurm_job.SlurmBatch]) -> None:
    batch = slurm(squeue="echo '7|FAILED|None|n7'", scontrol="echo 'JobId=7 ExitCode=0:9'")
    assert batch.look("7") == Seen("gone", "The kernel's worker ended by signal 9.")
    batch = slurm(scontrol="exit 1")
    assert batch.look("7") == Seen("gone", "The kernel's worker ended with code 1.")
    batch = slurm(scontrol="echo JobId=7")
    assert batch.look("7") == Seen("gone", "The kernel's worker ended with code 1.")


def test_a_held_job_of_slurm_is_taken_back(tmp_path: Path, slurm: Callable[..., slurm_job.SlurmBatch]) -> None:
    batch = slurm(squeue="echo '7|PENDING|JobHeldAdmin|'", scancel="true")
    assert batch.look("7").state == "gone"
    assert (tmp_path / "called").read_text().splitlines()[-1] == "7"


def test_a_slurm_that_hangs_is_away(
    slurm: Callable[..., slurm_job.SlurmBatch], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*_: Any, **__: Any) -> None:
        raise subprocess.TimeoutExpired("squeue", 60)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(Away):
        slurm().find()
