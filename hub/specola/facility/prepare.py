"""What must be there before the processes start: account, directories, secrets, addresses."""

from __future__ import annotations

import base64
import contextlib
import grp
import os
import pwd
import secrets as random
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from specola.core.errors import StateError
from specola.core.files import replace_file
from specola.core.layout import SECRETS, SERVICE_ACCOUNT, Layout
from specola.core.people import SERVICE_COMMENT
from specola.core.rights import acting_as
from specola.core.state import prepare_state
from specola.facility.loader import load
from specola.facility.runtime import Addresses, Ports, Runtime, addresses_file, read_own
from specola.identity.issuer.accounts import ensure_logins
from specola.identity.model import EmbeddedIdentity

DEFAULT_PORT = 8000
GIVEN_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST_PORT = 10_000
PORT_TRIES = 100


@dataclass(frozen=True)
class Owner:
    """The account that the facility's unprivileged processes run as."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Wish:
    """What `specola up` was asked for."""

    state: Path
    facility: Path | None = None
    port: int | None = None
    public_url: str | None = None


def is_root() -> bool:
    """Whether this is a run with accounts of their own for people."""
    return os.geteuid() == 0


def service_account() -> Owner:
    """The account `specola`, made on the first run as root; an existing one of another origin is refused."""
    if not is_root():
        return Owner(os.getuid(), os.getgid())
    try:
        known = pwd.getpwnam(SERVICE_ACCOUNT)
    except KeyError:
        _make_service_account()
        known = pwd.getpwnam(SERVICE_ACCOUNT)
    if known.pw_gecos != SERVICE_COMMENT or known.pw_uid == 0:
        raise StateError(
            f"the account {SERVICE_ACCOUNT!r} exists and was not made by Specola; rename it, or run Specola elsewhere"
        )
    return Owner(known.pw_uid, known.pw_gid)


def _make_service_account() -> None:
    try:
        grp.getgrnam(SERVICE_ACCOUNT)
    except KeyError:
        group = ["--user-group"]
    else:
        group = ["--gid", SERVICE_ACCOUNT]
    options = ["--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
    subprocess.run(["useradd", *options, *group, "--comment", SERVICE_COMMENT, SERVICE_ACCOUNT], check=True)


def prepare(wish: Wish, env: Path) -> Runtime:
    """Make everything that the processes need, or say clearly why it cannot be made."""
    layout = Layout(wish.state.absolute())
    facility_text = _facility_text(wish, layout)
    owner = service_account()
    if is_root():
        check_readable(env)
    prepare_state(layout, owner.uid, owner.gid)
    for path, mode in ((layout.run, 0o711), (layout.run / "pids", 0o700), (layout.run / "logs", 0o700)):
        make_directory(path, mode, os.geteuid(), os.getegid())
    # As their owner, so that root follows no link that another account has put there.
    with acting_as(owner.uid, owner.gid):
        for name in ("secrets", "logs", "pids", "hub", "gateway", "issuer"):
            make_directory(layout.state / name, 0o700, owner.uid, owner.gid)
        for name in SECRETS:
            write_secret(layout, name)
    replace_file(layout.facility_file, facility_text, group=owner.gid)
    facility = load(layout.facility_file)
    homes = facility.homes.path or layout.homes
    make_directory(homes, 0o711, os.geteuid(), os.getegid())
    addresses = choose_addresses(wish, layout, env)
    replace_file(addresses_file(layout), addresses.model_dump_json(indent=1), group=owner.gid)
    runtime = Runtime(layout, facility, addresses)
    if isinstance(facility.identity, EmbeddedIdentity):
        ensure_logins(layout, facility.identity.people, owner.uid, owner.gid)
    return runtime


def _facility_text(wish: Wish, layout: Layout) -> str:
    """The facility file asked for; else the one of the last start; else an empty one, which is valid."""
    if wish.facility is not None:
        load(wish.facility)
        return wish.facility.read_text()
    return read_own(layout.facility_file) or ""


def check_readable(env: Path) -> None:
    """People's programs run from this environment: every directory above it must let them through."""
    for path in (env, *env.parents):
        if not path.stat().st_mode & 0o001:
            raise StateError(
                f"{path} is closed to other accounts, and the environment {env} lies in it: "
                "install Specola in a place that every account may read, such as /opt or /var/lib/specola/env"
            )


def make_directory(path: Path, mode: int, uid: int, gid: int) -> None:
    """Make a directory with this owner and mode; one that is somebody else's, or a link, is refused."""
    path.mkdir(parents=True, exist_ok=True)
    info = path.lstat()
    if path.is_symlink() or info.st_uid not in {uid, os.geteuid()}:
        raise StateError(f"{path} belongs to somebody else, or is a link: remove it or choose another --state")
    path.chmod(mode)
    os.chown(path, uid, gid)


def write_secret(layout: Layout, name: str) -> None:
    """Make one secret of the facility, 0600; one that exists is kept."""
    path = layout.secrets / name
    if path.exists():
        return
    key = base64.urlsafe_b64encode(random.token_bytes(32)).decode() if name == "gateway-db" else random.token_hex(32)
    replace_file(path, key)


def choose_addresses(wish: Wish, layout: Layout, env: Path) -> Addresses:
    """The addresses of the last start where nothing else is asked for, new ones from the system otherwise."""
    kept_text = read_own(addresses_file(layout))
    known = Addresses.model_validate_json(kept_text) if kept_text else None
    port = wish.port or (known.ports.proxy if known else DEFAULT_PORT)
    inner = known.ports.model_dump() if known else free_ports(tuple(Ports.model_fields))
    ports = Ports.model_validate(inner | {"proxy": port})
    kept = known.public_url if known and known.ports.proxy == port else None
    url = wish.public_url or kept or f"http://127.0.0.1:{port}/"
    try:
        return Addresses(ports=ports, public_url=url.rstrip("/") + "/", env=env, separate_accounts=is_root())
    except ValidationError:
        raise StateError("--public-url must be http:// or https://, a host, and a port if need be; no path") from None


def free_ports(names: tuple[str, ...]) -> dict[str, int]:
    """A loopback port for each name, all different, and below those that the system gives out.

    While a process is away nobody is given its port: no program that asks for any, and no client that tries to reach
    it, which could be called back by itself.
    """
    with contextlib.ExitStack() as stack:
        sockets = {name: stack.enter_context(socket.socket()) for name in names}
        return {name: _bind(one) for name, one in sockets.items()}


def _bind(one: socket.socket) -> int:
    above = int(GIVEN_OUT.read_text().split()[0])
    for _ in range(PORT_TRIES if above > LOWEST_PORT else 0):
        with contextlib.suppress(OSError):
            one.bind(("127.0.0.1", LOWEST_PORT + random.randbelow(above - LOWEST_PORT)))
            break
    else:
        one.bind(("127.0.0.1", 0))
    return int(one.getsockname()[1])


def check_port(port: int) -> None:
    """Refuse a browser port that another program has."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StateError(f"port {port} cannot be used ({error.strerror}): choose another with --port") from None
