"""The batch systems that other tests use: they run jobs of ordinary accounts, refuse others, and leave nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from running import wait_for

from pools import debs, processes
from pools.htcondor import HTCondorPool, htcondor_pool
from pools.slurm import SlurmPool, slurm_pool

pytestmark = pytest.mark.needs_root
USER = "www-data"
KERNEL = ("/proc/sys/fs/pipe-user-pages-soft", "/proc/sys/net/core/rmem_max", "/proc/sys/kernel/keys/maxkeys")
"""what HTCondor's master would set on a machine that it takes for its own"""


def kernel_settings() -> list[str]:
    return [Path(path).read_text() for path in KERNEL if Path(path).exists()]


def condor_job(pool: HTCondorPool, place: Path, *lines: str, account: str = USER) -> None:
    description = place / "job.sub"
    description.write_text("\n".join(["executable = /bin/sh", "transfer_executable = false", *lines, "queue", ""]))
    pool.tool("condor_submit", str(description), account=account)


def open_directory(pool_top: Path) -> Path:
    place = pool_top / "work"
    place.mkdir(exist_ok=True)
    place.chmod(0o777)
    return place


def test_htcondor_runs_a_job_as_its_account_and_leaves_the_kernel_alone(htcondor: HTCondorPool) -> None:
    before = kernel_settings()
    place = open_directory(htcondor.top)
    condor_job(htcondor, place, "arguments = \"-c 'id -un'\"", f"output = {place}/who")
    wait_for(lambda: not htcondor.jobs("ClusterId"), 60, "the job's end")
    assert (place / "who").read_text().strip() == USER
    assert kernel_settings() == before


def test_htcondor_refuses_without_a_token(htcondor: HTCondorPool) -> None:
    config = htcondor.client(htcondor.top / "stranger")
    with pytest.raises(processes.CommandFailed, match=r"(?i)authenticat"):
        htcondor.tool("condor_status", account="nobody", config=config)
    place = open_directory(htcondor.top)
    (place / "stranger.sub").write_text("executable = /bin/true\nqueue\n")
    with pytest.raises(processes.CommandFailed, match="ERROR"):
        htcondor.tool("condor_submit", str(place / "stranger.sub"), account="nobody", config=config)
    assert not htcondor.jobs("ClusterId")


def test_slurm_runs_a_job_as_its_account_on_its_gpu(slurm: SlurmPool) -> None:
    place = open_directory(slurm.top)
    script = "#!/bin/sh\nid -un\n"
    slurm.tool("sbatch", "--gres=gpu:3g.40gb:1", "--mem=50", f"--output={place}/who", account=USER, script=script)
    wait_for(lambda: not slurm.jobs(), 60, "the job's end")
    assert (place / "who").read_text().strip() == USER
    with pytest.raises(processes.CommandFailed, match="not available"):
        slurm.tool("sbatch", "--gres=gpu:7g.80gb:1", account=USER, script=script)


def test_a_pool_that_ends_takes_its_jobs_with_it() -> None:
    with htcondor_pool() as condor, slurm_pool() as slurm:
        condor_job(condor, open_directory(condor.top), "arguments = \"-c 'sleep 600'\"")
        slurm.tool("sbatch", "--output=/dev/null", account=USER, script="#!/bin/sh\nsleep 600\n")
        wait_for(lambda: slurm.jobs("%T") == ["RUNNING"], 60, "Slurm's job")
        wait_for(lambda: condor.jobs("JobStatus") == [["2"]], 60, "HTCondor's job")
        tops = (condor.top, slurm.top)
    assert not [top for top in tops if top.exists()]
    assert not [process for top in tops for process in processes.marked(top)]


def test_tests_that_are_killed_leave_no_pool() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); from pools.slurm import slurm_pool\n"
    code += "with slurm_pool() as pool: print(pool.top, flush=True); sys.stdin.read()"
    tests = str(Path(__file__).parents[1])
    running = subprocess.Popen([sys.executable, "-c", code, tests], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with running:
        assert running.stdout is not None
        top = Path(running.stdout.readline().decode().strip())
        assert processes.marked(top)
        running.kill()
    wait_for(lambda: not top.exists() and not processes.marked(top), 60, "the end of the pool")


def test_what_is_unpacked_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, htcondor: HTCondorPool) -> None:
    def never(*_: object) -> None:
        raise AssertionError("fetched again")

    monkeypatch.setattr(debs, "_fetch", never)
    begun = (htcondor.root.parent / "done").stat()
    assert begun.st_uid == os.geteuid()
    with htcondor_pool() as second:
        assert second.root == htcondor.root


def test_the_mirror_is_the_one_of_this_machine() -> None:
    own = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)"], capture_output=True, text=True, check=True
    )
    line = debs.source("trixie").split()
    assert line[0] == "deb"
    assert line[-3] in own.stdout.split()
    assert line[-2:] == ["trixie", "main"]


def test_no_mirror_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debs, "_run", lambda *_, **__: "")
    with pytest.raises(debs.NoPackages, match="knows no Debian mirror"):
        debs.source("trixie")
