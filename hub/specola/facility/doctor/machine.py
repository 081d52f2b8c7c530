"""Probes of this machine: directories, limits, programs, processes."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import httpx

from specola.core.layout import SERVICE_ACCOUNT
from specola.core.quota import ThisKernel
from specola.core.state import VERSION, version_file
from specola.facility.doctor.finding import Finding, Findings, Patient, ill, needs_file, not_tried, well
from specola.facility.runtime import addresses_file

GIB = 1024**3
MEASURED = "measured and warned of at 95 %, not enforced"
QUOTA_OPTIONS = frozenset({"usrquota", "uquota", "quota", "usrjquota"})
INSTALL = "pip install 'specola[local]'"


async def state(who: Patient) -> Findings:
    """Whose the state directory is, how open it is, and which release wrote it."""
    directory = who.layout.state
    if not directory.exists():
        return [not_tried(f"{directory} does not exist yet; `specola up` makes it")]
    info = directory.stat()
    expected = _service_uid()
    if info.st_uid != expected:
        return [ill(f"{directory} belongs to uid {info.st_uid}, not to {expected}", "give another one with --state")]
    found: Findings = []
    if info.st_mode & 0o077:
        found.append(ill(f"{directory} is open to other accounts", f"chmod 0700 {directory}"))
    written = version_file(who.layout)
    text = written.read_text().strip() if written.exists() else ""
    if text.isdigit() and int(text) > VERSION:
        found.append(ill(f"{directory} was written by a newer release (version {text})", "start that release"))
    return found or [well(f"{directory}: ours, closed to others, version {text or VERSION}")]


def _service_uid() -> int:
    if os.geteuid() != 0:
        return os.geteuid()
    try:
        return pwd.getpwnam(SERVICE_ACCOUNT).pw_uid
    except KeyError:
        return 0


async def homes(who: Patient) -> Findings:
    """Files can be written, there is room, and what a quota means here."""
    if who.runtime is None:
        return [needs_file()]
    directory, quota = who.runtime.homes, who.runtime.facility.homes.quota_gib
    if not directory.exists():
        return [not_tried(f"{directory} does not exist yet; `specola up` makes it")]
    if not os.access(directory, os.W_OK | os.X_OK):
        return [ill(f"{directory} cannot be written: no new person could start a server", "run this as root")]
    free = shutil.disk_usage(directory).free / GIB
    found = [well(f"{directory} can be written; {free:.1f} GiB are free")]
    if quota is not None and free < quota:
        found.append(ill(f"less is free than one home may hold ({quota:g} GiB)", "make room, or lower homes.quota_gib"))
    if quota is not None:
        found.append(_quota(directory, quota, separate=who.runtime.addresses.separate_accounts))
    return found


def _quota(directory: Path, quota: float, *, separate: bool) -> Finding:
    place, options = _mount_of(directory)
    if not separate:
        return not_tried(f"{quota:g} GiB a home are {MEASURED}: everybody's files belong to one account")
    if ThisKernel().enforces(directory):
        return well(f"{quota:g} GiB a home are enforced by the file system {place}, for all files of an account there")
    if {option.partition("=")[0] for option in options} & QUOTA_OPTIONS:
        return not_tried(
            f"{quota:g} GiB a home are {MEASURED}: {place} is mounted for quotas of accounts, but they are off",
            f"quotaon -u {place}; if it refuses, this kernel (CONFIG_QFMT_V2) or file system (-O quota) has none",
        )
    return not_tried(
        f"{quota:g} GiB a home are {MEASURED}: {place} is mounted without quotas of accounts",
        "mount it with usrquota (ext4, XFS, tmpfs) where homes must not grow further",
    )


def _mount_of(path: Path, table: Path = Path("/proc/self/mounts")) -> tuple[str, frozenset[str]]:
    best, found = "/", frozenset[str]()
    resolved = path.resolve()
    for line in table.read_text().splitlines():
        _, place, _, options, *_ = line.split(" ")
        if resolved.is_relative_to(place) and len(place) >= len(best):
            best, found = place, frozenset(options.split(","))
    return best, found


async def memory(who: Patient) -> Findings:
    """Whether a memory limit holds here: a control group is made, given a limit, and removed."""
    from specola.launcher.limits import Limits, controllers

    if who.runtime is None:
        return [needs_file()]
    facility = who.runtime.facility
    limits = [facility.servers.memory_gib, *(group.memory_gib for group in facility.groups.values())]
    if not any(limits):
        return [not_tried("no limit for servers is set: one person can use it all", "set servers.memory_gib")]
    groups = Limits(f"doctor-{os.getpid()}")
    try:
        effect = groups.box("probe", 0.25, None).effects["memory"]
    finally:
        groups.remove_all()
    if effect == "enforced":
        base = controllers()["memory"].base
        return [well(f"limits are enforced (control group v{2 if _is_v2(base) else 1} at {base})")]
    return [not_tried("limits are advisory: no control group can be made here", "run as root, outside of a container")]


def _is_v2(base: Path) -> bool:
    return (base / "cgroup.controllers").exists()


async def port(who: Patient) -> Findings:
    """The one address that browsers use."""
    if who.runtime is None:
        return [needs_file()]
    number = who.runtime.ports.proxy
    if who.up:
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
                answer = await client.get(f"http://127.0.0.1:{number}/hub/health")
        except httpx.HTTPError as error:
            return [ill(f"port {number} does not answer ({type(error).__name__})", "look at the logs of proxy and hub")]
        if answer.is_success:
            return [well(f"{who.runtime.public_url} answers")]
        return [ill(f"port {number} answers with {answer.status_code}", "look at the logs of proxy and hub")]
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", number))
        except OSError as error:
            return [ill(f"port {number} cannot be used ({error.strerror})", "choose another with `specola up --port`")]
    return [well(f"port {number} is free")]


async def processes(who: Patient) -> Findings:
    """Every process of a running facility answers."""
    from specola.facility.processes import table
    from specola.facility.supervisor import healthy

    if who.runtime is None:
        return [needs_file()]
    if not who.up or not addresses_file(who.layout).exists():
        return [not_tried("the facility is not up")]
    rows = table(who.runtime)
    answers = await asyncio.gather(*(asyncio.to_thread(healthy, process) for process in rows))
    return [
        well(f"{process.name} answers")
        if answer
        else ill(f"{process.name} does not answer", f"look at {who.layout.logs / process.name}.log")
        for process, answer in zip(rows, answers, strict=True)
    ]


async def programs(_who: Patient) -> Findings:
    """What comes in wheels and not from this system."""
    from specola.facility.processes import node, proxy_program
    from specola.scaleout.adapters.proxy_command import program

    return [
        await _program("Node", node, "--version"),
        await _program("configurable-http-proxy", proxy_program),
        await _program("dask-gateway-proxy", program),
        _distribution("jupyterhub"),
        _distribution("specola-lab"),
        _distribution("specola-worker"),
    ]


async def _program(name: str, find: Callable[[], Path], *arguments: str) -> Finding:
    try:
        path = find()
    except FileNotFoundError as error:
        return ill(f"{name}: {error}", INSTALL)
    if not path.exists():
        return ill(f"{name} is missing: {path}", INSTALL)
    if not arguments:
        return well(f"{name}: {path}")
    done = await asyncio.to_thread(_run, path, *arguments)
    if done.returncode != 0:
        return ill(f"{name} does not run on this machine: {path}", INSTALL)
    return well(f"{name} {done.stdout.strip()}: {path}")


def _run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def _distribution(name: str) -> Finding:
    try:
        return well(f"{name} {version(name)}")
    except PackageNotFoundError:
        return ill(f"{name} is not installed", INSTALL)
