"""A real Slurm on loopback: controller, one node and munge of Debian's packages, GPUs as generic resources.

    with slurm_pool(gres={"1g.10gb": 4, "3g.40gb": 1}) as pool:
        pool.tool("sbatch", "--gres=gpu:1g.10gb:1", "job.sh", account="www-data")

The GPUs are empty files that gres.conf calls devices. Jobs run as the accounts that sent them and see this machine's
files. Needs root.
"""

from __future__ import annotations

import contextlib
import platform
import secrets
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from running import free_port, wait_for

from pools.debs import Recipe, unpacked
from pools.processes import CommandFailed, Daemon, command, keep_logs, pool_directory

PLUGINS = f"usr/lib/{platform.machine()}-linux-gnu/slurm-wlm"
RECIPE = Recipe(
    name="slurm",
    suite="trixie",
    packages=("slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins", "munge"),
    programs=("usr/sbin/*", "usr/bin/*"),
    libraries=(PLUGINS,),
)

CONFIGURATION = """
ClusterName=specola
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={top}/run/munge.sock
CredType=cred/munge
PluginDir={root}/{plugins}
StateSaveLocation={top}/state
SlurmdSpoolDir={top}/spool
SlurmctldPidFile={top}/run/slurmctld.pid
SlurmdPidFile={top}/run/slurmd.pid
SlurmctldLogFile={top}/log/slurmctld.log
SlurmdLogFile={top}/log/slurmd.log
MailProg=/bin/true

# no control groups
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none

# one node of this size, whatever the machine has, and quick decisions
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,sched_min_interval=100000,batch_sched_delay=0,bf_interval=2
ReturnToService=2
InactiveLimit=0
KillWait=5
MinJobAge=20
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=16000 State=UNKNOWN{gres}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
PartitionName=closed Nodes=ALL MaxTime=INFINITE State=DOWN
"""


@dataclass
class SlurmPool:
    """A Slurm that runs."""

    root: Path
    top: Path
    host: str

    @property
    def config(self) -> Path:
        """slurm.conf, for everybody."""
        return self.top / "slurm.conf"

    @property
    def programs(self) -> Path:
        """The directory of sbatch, squeue and the others."""
        return self.root / "usr" / "bin"

    @property
    def environment(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.config)}

    def tool(self, name: str, *arguments: str, account: str | None = None, script: str = "") -> str:
        """What a command of Slurm prints, as root or as an account; `script` is what it reads."""
        return command([str(self.programs / name), *arguments], self.environment, account, script)

    def jobs(self, form: str = "%A %T") -> list[str]:
        """Everybody's jobs that wait or run."""
        return self.tool("squeue", "--noheader", "--format", form).splitlines()

    def answers(self) -> bool:
        """Whether the node is ready for jobs."""
        try:
            return "idle" in self.tool("sinfo", "--noheader", "--format", "%t")
        except CommandFailed:
            return False


@contextlib.contextmanager
def slurm_pool(gres: Mapping[str, int] | None = None, *, cores: int = 8) -> Iterator[SlurmPool]:
    """A Slurm in a directory of its own with so many GPUs of each type; jobs, daemons and files are gone at the end."""
    root = unpacked(RECIPE)
    with pool_directory("slurm") as top:
        pool = SlurmPool(root, top, socket.gethostname().split(".")[0])
        lay_out(pool, gres or {}, cores)
        sbin = root / "usr" / "sbin"
        try:
            with contextlib.ExitStack() as running:
                daemons = [
                    running.enter_context(Daemon(argv, pool.environment, top / "log" / f"{name}.out"))
                    for name, argv in commands(sbin, top).items()
                ]
                wait_for(lambda: all(d.alive() for d in daemons) and pool.answers(), 60, "a Slurm")
                yield pool
                with contextlib.suppress(CommandFailed, AssertionError):
                    pool.tool("scancel", "--full", "--partition", "main")
                    wait_for(lambda: not pool.jobs(), 15, "the end of the jobs")
        finally:
            keep_logs(top, top / "log")


def commands(sbin: Path, top: Path) -> dict[str, list[str]]:
    """The daemons, in the foreground."""
    run, log = top / "run", top / "log"
    munge = [f"--socket={run}/munge.sock", f"--key-file={top}/munge.key", f"--pid-file={run}/munged.pid"]
    munge += [f"--log-file={log}/munged.log", f"--seed-file={run}/munged.seed"]
    return {
        "munged": [str(sbin / "munged"), "--foreground", "--force", *munge],
        "slurmctld": [str(top / "sbin" / "slurmctld"), "-D"],
        "slurmd": [str(top / "sbin" / "slurmd"), "-D", "-d", str(top / "sbin" / "slurmstepd")],
    }


def lay_out(pool: SlurmPool, gres: Mapping[str, int], cores: int) -> None:
    """Directories, munge's key, the configuration and the files that stand for GPUs."""
    top = pool.top
    for name in ("run", "log", "state", "spool", "devices", "sbin"):
        (top / name).mkdir()
    for name in ("slurmctld", "slurmd", "slurmstepd"):
        # they behave by the name they are called, which Debian's alternatives would give them
        (top / "sbin" / name).symlink_to(pool.root / "usr" / "sbin" / f"{name}-wlm")
    key = top / "munge.key"
    key.touch(mode=0o400)
    key.write_bytes(secrets.token_bytes(1024))
    lines = ["AutoDetect=off"]
    number = 0
    for profile, count in gres.items():
        for _ in range(count):
            device = top / "devices" / f"gpu{number}"
            device.touch()
            lines.append(f"Name=gpu Type={profile} File={device}")
            number += 1
    (top / "gres.conf").write_text("\n".join(lines) + "\n")
    types = ",".join(f"gpu:{profile}:{count}" for profile, count in gres.items())
    pool.config.write_text(
        CONFIGURATION.format(
            host=pool.host,
            controller=free_port(),
            node=free_port(),
            root=pool.root,
            plugins=PLUGINS,
            top=top,
            cores=cores,
            gres=f" Gres={types}" if types else "",
        )
    )
