"""A real HTCondor pool on loopback: every daemon of Debian's stable release, ordinary users with tokens of their own.

    with htcondor_pool(slices({"1g.10gb": 4})) as pool:
        environment = {"CONDOR_CONFIG": str(pool.config_for("www-data"))}

It has the GPUs that it is told to have: an inventory script describes them, as `condor_gpu_discovery` would. Jobs run
as the accounts that sent them and see this machine's files. Needs root.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from running import free_port, wait_for

from pools.debs import Recipe, unpacked
from pools.processes import CommandFailed, Daemon, command, keep_logs, pool_directory

DOMAIN = "specola.test"
RECIPE = Recipe(
    name="htcondor",
    suite="trixie",
    packages=("condor",),
    programs=("usr/*bin/condor_*", "usr/bin/classad*", "usr/libexec/condor/*", "usr/lib/libc*.so*"),
    libraries=(),
)

CONFIGURATION = """
RELEASE_DIR = {root}/usr
LIB = $(RELEASE_DIR)/lib/condor
LIBEXEC = $(RELEASE_DIR)/libexec/condor
BIN = $(RELEASE_DIR)/bin
SBIN = $(RELEASE_DIR)/sbin
SHARE = $(RELEASE_DIR)/share/condor
LOCAL_DIR = {top}/var
LOG = $(LOCAL_DIR)/log
LOCK = $(LOCAL_DIR)/lock
RUN = $(LOCAL_DIR)/run
SPOOL = $(LOCAL_DIR)/spool
EXECUTE = $(LOCAL_DIR)/execute
SEC_CREDENTIAL_DIRECTORY = $(LOCAL_DIR)/cred
CONDOR_IDS = 1.1
DAEMON_LIST = MASTER COLLECTOR NEGOTIATOR SCHEDD STARTD

# one port on loopback
CONDOR_HOST = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:{port}
USE_SHARED_PORT = True
SHARED_PORT_PORT = {port}
NETWORK_INTERFACE = 127.0.0.1
ENABLE_IPV6 = False
NO_DNS = True
DEFAULT_DOMAIN_NAME = {domain}

# everybody shows a token; an account of this machine runs its own jobs
use SECURITY : recommended_v9_0
SEC_DEFAULT_AUTHENTICATION_METHODS = IDTOKENS
SEC_CLIENT_AUTHENTICATION_METHODS = IDTOKENS
SEC_PASSWORD_DIRECTORY = {top}/keys
SEC_TOKEN_POOL_SIGNING_KEY_FILE = {top}/keys/POOL
SEC_TOKEN_SYSTEM_DIRECTORY = {top}/tokens
TRUST_DOMAIN = {domain}
UID_DOMAIN = {domain}
FILESYSTEM_DOMAIN = {domain}
TRUST_UID_DOMAIN = True
STARTER_ALLOW_RUNAS_OWNER = True
ALLOW_ADMINISTRATOR = condor@{domain}, root@{domain}
ALLOW_DAEMON = condor@{domain}
ALLOW_WRITE = *@{domain}
ALLOW_READ = *

# a machine of this size, with these GPUs, always willing
NUM_CPUS = {cores}
MEMORY = 16000
use FEATURE : PartitionableSlot
use FEATURE : GPUs
MACHINE_RESOURCE_INVENTORY_GPUs = {top}/gpus
START = True
PREEMPT = False
SUSPEND = False
KILL = False

# no systemd, no control groups, and never the kernel of this machine: the master would set it up as root
LINUX_KERNEL_TUNING_SCRIPT =
BASE_CGROUP =
MOUNT_PRIVATE_DEV_SHM = False
MOUNT_UNDER_SCRATCH =
USE_PID_NAMESPACES = False
DISCARD_SESSION_KEYRING_ON_STARTUP = False
RUNBENCHMARKS = False
MAIL = /bin/true
ENABLE_SSH_TO_JOB = False

NEGOTIATOR_INTERVAL = {interval}
NEGOTIATOR_CYCLE_DELAY = 1
NEGOTIATOR_MIN_INTERVAL = 1
SCHEDD_INTERVAL = 2
SCHEDD_MIN_INTERVAL = 1
UPDATE_INTERVAL = 5
CLAIM_WORKLIFE = 600
MASTER_BACKOFF_CONSTANT = 1
"""

CLIENT = """
COLLECTOR_HOST = 127.0.0.1:{port}
SCHEDD_HOST = {schedd}
SEC_CLIENT_AUTHENTICATION_METHODS = IDTOKENS
SEC_DEFAULT_AUTHENTICATION = REQUIRED
SEC_TOKEN_DIRECTORY = {tokens}
UID_DOMAIN = {domain}
RELEASE_DIR = {root}/usr
BIN = $(RELEASE_DIR)/bin
LOG = /tmp
"""


@dataclass(frozen=True)
class Slice:
    """A MIG slice as the pool advertises it."""

    uuid: str
    profile: str
    memory_mb: int

    @property
    def ad(self) -> str:
        """The line that `condor_gpu_discovery -nested` would print, with the profile besides."""
        facts = f'DeviceUuid="{self.uuid}"; GlobalMemoryMb={self.memory_mb}; MigProfile="{self.profile}"'
        return f'{self.uuid.replace("-", "_")}=[ id="{self.uuid}"; {facts}; ]'


MEMORY_MB = {"1g.10gb": 9856, "1g.20gb": 19968, "2g.20gb": 19968, "3g.40gb": 40192, "4g.40gb": 40192, "7g.80gb": 81038}
"""what such slices of an 80 GB GPU report"""


def slices(counts: Mapping[str, int]) -> list[Slice]:
    """So many slices of each profile, each with an identity of its own."""
    profiles = [profile for profile, count in counts.items() for _ in range(count)]
    return [
        Slice(f"MIG-{number:08x}-5ec0-1a00-0000-00000000{number:04x}", profile, MEMORY_MB[profile])
        for number, profile in enumerate(profiles)
    ]


@dataclass
class HTCondorPool:
    """A pool that runs."""

    root: Path
    top: Path
    port: int
    gpus: tuple[Slice, ...] = ()
    master: int = 0
    schedd: str = f"127-0-0-1.{DOMAIN}"

    @property
    def config(self) -> Path:
        """The daemons' configuration, which makes tokens."""
        return self.top / "condor_config"

    @property
    def operator(self) -> Path:
        """A configuration with which root administers."""
        return self.config_for("root")

    @property
    def collector(self) -> str:
        return f"127.0.0.1:{self.port}"

    def token(self, person: str) -> str:
        """A token that lets somebody submit and look."""
        rights = ["-lifetime", "86400", "-authz", "READ", "-authz", "WRITE"]
        rights = [] if person in {"root", "condor"} else rights
        return self.tool("condor_token_create", "-identity", f"{person}@{DOMAIN}", *rights, config=self.config)

    def config_for(self, account: str) -> Path:
        """A configuration for an account, with a token that only it can read."""
        place = self.top / "clients" / account
        if not place.exists():
            self.client(place, self.token(account))
            for path in (place / "tokens" / "pool", place / "tokens"):
                shutil.chown(path, account)
        return place / "condor_config"

    def client(self, place: Path, token: str = "") -> Path:
        """A configuration that knows the pool, and at most this token."""
        tokens = place / "tokens"
        tokens.mkdir(parents=True, mode=0o700)
        place.chmod(0o755)
        if token:
            (tokens / "pool").write_text(token)
            (tokens / "pool").chmod(0o600)
        config = place / "condor_config"
        config.write_text(
            CLIENT.format(port=self.port, schedd=self.schedd, tokens=tokens, domain=DOMAIN, root=self.root)
        )
        return config

    def tool(self, name: str, *arguments: str, account: str | None = None, config: Path | None = None) -> str:
        """What a command of HTCondor prints; as root with all rights, or as an account with its own."""
        config = config or (self.config_for(account) if account else self.operator)
        return command([str(self.root / "usr/bin" / name), *arguments], {"CONDOR_CONFIG": str(config)}, account)

    def jobs(self, *attributes: str) -> list[list[str]]:
        """Everybody's jobs in the queue."""
        return [line.split("\t") for line in self.tool("condor_q", "-allusers", "-af:t", *attributes).splitlines()]

    def daemon(self, name: str) -> psutil.Process:
        """One of the daemons, as in `condor_schedd`."""
        return next(one for one in psutil.Process(self.master).children() if one.name() == name)

    def answers(self) -> bool:
        """Whether the machine is offered and jobs are taken."""
        try:
            return "slot" in self.tool("condor_status", "-af", "Name") and bool(
                self.tool("condor_status", "-schedd", "-af", "Name")
            )
        except CommandFailed:
            return False


@contextlib.contextmanager
def htcondor_pool(
    gpus: Sequence[Slice] = (), *, cores: int = 8, negotiator_interval: int = 2
) -> Iterator[HTCondorPool]:
    """A pool in a directory of its own; its jobs, daemons and files are gone at the end."""
    root = unpacked(RECIPE)
    with pool_directory("condor") as top:
        pool = HTCondorPool(root, top, free_port(), tuple(gpus))
        lay_out(pool, cores, negotiator_interval)
        argv = [str(root / "usr/sbin/condor_master"), "-f"]
        master = Daemon(argv, {"CONDOR_CONFIG": str(pool.config)}, top / "master.out")
        try:
            with master:
                pool.master = master.pid
                wait_for(lambda: master.alive() and pool.answers(), 60, "an HTCondor pool")
                yield pool
                with contextlib.suppress(CommandFailed, AssertionError):
                    pool.tool("condor_rm", "-all")
        finally:
            keep_logs(top, top / "var" / "log")


def lay_out(pool: HTCondorPool, cores: int, interval: int) -> None:
    """Directories, keys, configuration and the inventory of GPUs."""
    top = pool.top
    for name in ("log", "lock", "run", "spool", "execute", "cred"):
        place = top / "var" / name
        place.mkdir(parents=True)
        os.chown(place, 1, 1)
    for name in ("keys", "tokens"):
        (top / name).mkdir(mode=0o700)
    (top / "keys" / "POOL").touch(mode=0o600)
    (top / "keys" / "POOL").write_bytes(secrets.token_bytes(64))
    pool.config.write_text(
        CONFIGURATION.format(root=pool.root, top=top, port=pool.port, domain=DOMAIN, cores=cores, interval=interval)
    )
    found = ", ".join(slice_.uuid for slice_ in pool.gpus)
    lines = [
        f'DetectedGPUs="{found}"' if pool.gpus else "DetectedGPUs=0",
        "Common=[ Simulated=true; ]",
        *(s.ad for s in pool.gpus),
    ]
    inventory = top / "gpus"
    inventory.write_text("#!/bin/sh\ncat <<'ADS'\n" + "\n".join(lines) + "\nADS\n")
    inventory.chmod(0o755)
    (top / "tokens" / "condor").touch(mode=0o600)
    (top / "tokens" / "condor").write_text(pool.token("condor"))
