"""Probes of the pools of GPUs, as far as this machine and account can look. Nothing is made and nothing changed."""

from __future__ import annotations

import asyncio
import subprocess
from importlib.util import find_spec
from pathlib import Path

from specola.facility.doctor.finding import Finding, Findings, Mark, Patient, ill, needs_file, not_tried, well
from specola.gpu.model import CondorPool, Pool, SlurmPool

MARKS = {True: Mark.WELL, False: Mark.ILL, None: Mark.NOT_TRIED}
SLURM = ("sbatch", "squeue", "scancel")
PATIENCE = 10.0
LONGEST = 200


async def gpu(who: Patient) -> Findings:
    """Each pool of the facility file."""
    if who.runtime is None:
        return [needs_file()]
    pools = who.runtime.facility.gpu.pools
    if not pools:
        return [not_tried("the facility file has no pool of GPUs")]
    found: Findings = []
    for name, pool in pools.items():
        found += [Finding(one.mark, f"{name}: {one.text}", one.todo) for one in await _pool(who, name, pool)]
    return found


async def _pool(who: Patient, name: str, pool: Pool) -> Findings:
    if isinstance(pool, CondorPool):
        return [await asyncio.to_thread(_condor, pool)]
    if isinstance(pool, SlurmPool):
        return [await asyncio.to_thread(_slurm, pool)]
    # with the table of models, for those who have a pool
    from specola.gpu.adapters.probing import probe
    from specola.gpu.adapters.profiles import models

    seen = await probe(pool, models()[pool.model], who.layout.state / "gpu" / name)
    return [Finding(MARKS[one.well], one.text, one.todo) for one in seen]


def _condor(pool: CondorPool) -> Finding:
    if find_spec("htcondor2") is None:
        return ill("the bindings of HTCondor are not installed", "pip install 'specola[condor]'")
    import htcondor2

    try:
        collector = htcondor2.Collector(pool.collector) if pool.collector else htcondor2.Collector()
        found = collector.locate(htcondor2.DaemonType.Schedd, pool.schedd)
    except (htcondor2.HTCondorException, RuntimeError) as error:
        return ill(f"HTCondor does not answer: {str(error)[:LONGEST]}", "look at CONDOR_CONFIG, `collector`, `schedd`")
    if found is None:
        return ill("HTCondor does not know the schedd", "`condor_status -schedd` lists those that it knows")
    return well(f"the schedd {found.get('Name', '')} answers")


def _slurm(pool: SlurmPool) -> Finding:
    missing = [name for name in SLURM if not (Path(pool.programs) / name).exists()]
    if missing:
        return ill(f"{pool.programs} has no {', '.join(missing)}", "install Slurm's clients, or set `programs`")
    try:
        done = subprocess.run(
            [str(Path(pool.programs) / "squeue"), "--noheader", "--me"],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return ill(f"Slurm does not answer: {str(error)[:LONGEST]}", "look at slurm.conf and at munge")
    if done.returncode != 0:
        return ill(f"Slurm does not answer: {done.stderr.strip()[:LONGEST]}", "look at slurm.conf and at munge")
    return well("Slurm answers")
