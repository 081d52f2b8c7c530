"""Kernel workers as Slurm jobs; tested with Slurm 24.11."""

from __future__ import annotations

from typing import Any

from specola.core.accounts import Account
from specola.gpu.adapters.sites import MARGIN, SETTINGS, SiteRunner, exports, worker
from specola.gpu.adapters.slurm_job import MARK
from specola.gpu.geometry import WHOLE
from specola.gpu.model import SlurmPool, Work

END = "END_OF_SETTINGS"


class SlurmRunner(SiteRunner):
    """Sends a job for each lease with sbatch, as the person."""

    site = "Slurm"
    kind = "slurm"
    settings_variable = "SLURM_CONF"
    _section: SlurmPool

    def reach(self) -> dict[str, Any]:
        """Where sbatch and the others are."""
        return {"programs": self._section.programs}

    def job(self, work: Work, account: Account) -> dict[str, Any]:
        """Options of sbatch. Nothing of an environment is sent along; a job that lost its slice does not come again."""
        section = self._section
        shared = work.settings.get("home") == "shared"
        errors = f"{account.home}/.local/share/specola/gpu-{work.lease}.log" if shared else ""
        options = [
            f"--gres={self.gres(work.shape)}",
            "--ntasks=1",
            f"--cpus-per-task={section.cores}",
            f"--mem={int(section.memory_gib * 1024)}M",
            f"--time={-(-(work.seconds + MARGIN) // 60)}",
            f"--output={errors or '/dev/null'}",
            "--chdir=/tmp",
            "--no-requeue",
            "--export=LANG",
        ]
        if section.partition:
            options.append(f"--partition={section.partition}")
        return {"options": [*options, *section.options], "errors": errors}

    def gres(self, shape: str) -> str:
        """The generic resource of a shape."""
        profile = self.model.name.lower() if shape == WHOLE else self.model.profiles[shape].name
        return f"{self._section.gres.format(profile=profile)}:1"

    def script(self, work: Work) -> str:
        """The worker with its settings in a file of its own, removed with it; a signal to the job reaches it."""
        lines = [
            "#!/bin/sh",
            "umask 077",
            exports(work),
            "place=$(mktemp -d) || exit 1",
            "trap 'rm -rf \"$place\"' EXIT",
            f"cat >\"$place/{SETTINGS}\" <<'{END}'",
            MARK,
            END,
        ]
        if work.settings.get("home") != "shared":
            lines.append('export HOME="$place"')
        return "\n".join([*lines, worker(self._section.python, "$place"), ""])
