"""What is run for a scheduler and for a worker, as data: argv, environment, secret files.

`{files}` is a directory in the owner's home that only they can enter; the launcher puts its path there.
Certificate, key and token go into files of that directory: an environment or a command line shows too much.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

SOCKET = "http.sock"
CERTIFICATE, KEY, TOKEN = "dask.crt", "dask.pem", "token"
LOOPBACK = "127.0.0.1"
DEATH_TIMEOUT = 60


@dataclass(frozen=True)
class Program:
    """One process for the launcher."""

    key: str
    argv: tuple[str, ...]
    env: dict[str, str]
    files: dict[str, str] = field(repr=False)


@dataclass(frozen=True)
class Identity:
    """What the processes of one cluster prove who they are with, and the request that they exist for."""

    cluster: str
    request: str
    certificate: str = field(repr=False)
    key: str = field(repr=False)
    token: str = field(repr=False)


def scheduler_key(cluster: str) -> str:
    """The launcher's name of a cluster's scheduler."""
    return f"cluster.{cluster}.scheduler"


def worker_key(cluster: str, worker: str) -> str:
    """The launcher's name of a worker."""
    return f"cluster.{cluster}.worker.{worker}"


def common_env(prefix: Path, role: str, request: str) -> dict[str, str]:
    """Nothing of the gateway's own environment; what names a person is the launcher's to add."""
    return {
        "PATH": f"{prefix}/bin:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "SPECOLA_HTTP_SOCKET": f"{{files}}/{SOCKET}",
        "SPECOLA_REQUEST_ID": request,
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": f"{{files}}/{CERTIFICATE}",
        f"DASK_DISTRIBUTED__COMM__TLS__{role}__CERT": f"{{files}}/{CERTIFICATE}",
        f"DASK_DISTRIBUTED__COMM__TLS__{role}__KEY": f"{{files}}/{KEY}",
    }


def scheduler(prefix: Path, identity: Identity, *, api_url: str, workers: int, options: dict[str, float]) -> Program:
    """The scheduler of a cluster; `options` are dask-gateway's own, by the names of its command line."""
    env = common_env(prefix, "SCHEDULER", identity.request) | {
        "DASK_GATEWAY_API_URL": api_url,
        "DASK_GATEWAY_API_TOKEN": f"{{files}}/{TOKEN}",  # a value with a slash is read as a file
        "DASK_GATEWAY_CLUSTER_NAME": identity.cluster,
        "SPECOLA_WORKERS": str(workers),
    }
    argv = [f"{prefix}/bin/dask", "scheduler", "--protocol", "tls", "--host", LOOPBACK, "--port", "0"]
    argv += ["--preload", "specola_worker.scheduler", "--dg-api-address", f"{LOOPBACK}:0"]
    for name, value in options.items():
        argv += [f"--dg-{name}", str(value)]
    return Program(scheduler_key(identity.cluster), tuple(argv), env, _files(identity) | {TOKEN: identity.token})


def worker(prefix: Path, identity: Identity, *, name: str, scheduler_address: str, cores: int, memory: int) -> Program:
    """One worker. Without a nanny: the gateway replaces a worker that died, and one process starts twice as fast."""
    argv = [f"{prefix}/bin/dask", "worker", scheduler_address, "--host", LOOPBACK, "--name", name, "--no-nanny"]
    argv += ["--nthreads", str(cores), "--memory-limit", str(memory)]
    argv += ["--death-timeout", str(DEATH_TIMEOUT), "--preload", "specola_worker.preload"]
    env = common_env(prefix, "WORKER", identity.request)
    return Program(worker_key(identity.cluster, name), tuple(argv), env, _files(identity))


def _files(identity: Identity) -> dict[str, str]:
    return {CERTIFICATE: identity.certificate, KEY: identity.key}
