"""Kernel workers as HTCondor jobs; tested with HTCondor 23.9.6 and the bindings 25.14.1 (extra `condor`)."""

from __future__ import annotations

from typing import Any

from specola.core.accounts import Account
from specola.gpu.adapters.sites import MARGIN, SiteRunner, exports, worker
from specola.gpu.geometry import WHOLE, GpuModel
from specola.gpu.model import CondorPool, Work

NEAR = 0.08
"""how far the memory that a slice reports may lie from the table's: drivers differ"""
HELD_KEPT = 300


class CondorRunner(SiteRunner):
    """Sends a job for each lease to a schedd, with the person's own credentials.

    A schedd that is named may be on another machine: the job's files are sent to it. The local one reads them here.
    """

    site = "HTCondor"
    kind = "condor"
    settings_variable = "CONDOR_CONFIG"
    _section: CondorPool

    def reach(self) -> dict[str, Any]:
        """Schedd and collector by name, or those of the configuration."""
        return {"schedd": self._section.schedd, "collector": self._section.collector}

    def job(self, work: Work, account: Account) -> dict[str, Any]:  # noqa: ARG002 - Slurm needs it
        """The submit description without its files. A job that lost its slice is not started again elsewhere."""
        limit = work.seconds + MARGIN
        over = [
            f"(JobStatus == 5 && time() - EnteredCurrentStatus > {HELD_KEPT})",
            f"(JobStatus == 2 && time() - EnteredCurrentStatus > {limit})",
            "(JobStatus == 1 && NumJobStarts > 0)",
        ]
        description = {
            "request_gpus": "1",
            "require_gpus": wanted(self.model, work.shape),
            "request_cpus": str(self._section.cores),
            "request_memory": f"{self._section.memory_gib:g}GB",
            "periodic_remove": " || ".join(over),
        }
        return {"submit": description | self._section.submit}

    def script(self, work: Work) -> str:
        """The worker in the job's own directory, which is its home where the site has no other."""
        lines = ["#!/bin/sh", "umask 077", exports(work)]
        if work.settings.get("home") != "shared":
            lines.append('export HOME="$PWD"')
        return "\n".join([*lines, worker(self._section.python, "."), ""])


def wanted(model: GpuModel, shape: str) -> str:
    """What a GPU's ad must say: the profile where the site advertises it, else the memory."""
    if shape == WHOLE:
        return f'!regexp("^MIG-", DeviceUuid ?: "") && GlobalMemoryMb >= {_mb(model.gib * (1 - NEAR))}'
    profile = model.profiles[shape]
    memory = f"GlobalMemoryMb >= {_mb(profile.gib * (1 - NEAR))} && GlobalMemoryMb <= {_mb(profile.gib * (1 + NEAR))}"
    return f'ifThenElse(isUndefined(MigProfile), {memory}, MigProfile == "{profile.name}")'


def _mb(gib: float) -> int:
    return int(gib * 1024)
